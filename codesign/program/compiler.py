"""The compiler: an integer network and a hardware description to a program."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import ceil

import numpy as np
from numpy.typing import NDArray

from codesign.arch.hardware import Hardware
from codesign.arch.scheme import Scheme
from codesign.errors import UserError
from codesign.program.input_folding import fold_input
from codesign.program.packing import beats_to_bytes, packed_weights, record_bytes, to_bits, weight_codes
from codesign.program.passes import passes_of, row_sets
from codesign.program.program import InputPiece, LayerWork, PassPlan, Placement, Program, StepPlan
from codesign.program.schedule import Kind, Schedule, Step, StoredMap
from codesign.program.strips import build_schedule
from codesign.program.tiling import Tiling
from codesign.quant.integer_network import (
    NARROW,
    IntegerConv,
    IntegerNetwork,
    IntegerPool,
    IntegerTensor,
    multiplier_of,
)
from codesign.rtl.geometry import COORD_BITS, SUM_BITS, Geometry
from codesign.rtl.layout import DESCRIPTOR, KERNEL_BITS, PARAM, STRIDE_BITS, Op

IntArray = NDArray[np.int64]


def compile_network(network: IntegerNetwork, hw: Hardware) -> Program:
    """Compile `network` for `hw`.

    Raises:
        UserError: something does not fit; the message names the layer, the limit and by how much it is exceeded.
    """
    if multiplier_of(network) != NARROW:
        raise UserError(
            f"network '{network.name}': requantizes with {multiplier_of(network).bits} bits, this hardware has "
            f"{NARROW.bits}; import it with --multiplier-bits {NARROW.bits}"
        )
    return _Compiler(network, hw).program()


class _Compiler:
    def __init__(self, network: IntegerNetwork, hw: Hardware) -> None:
        self.given = network
        self.hw = hw
        self.geometry = Geometry(hw)
        self.network, self.folding = fold_input(network, self.geometry)
        self.chunks: list[NDArray[np.uint8]] = []
        self.beats = 0
        self.segments: list[int] = []  # beats from the beginning to the end of every part between fences
        self.loads: dict[str, int] = {}  # first beat of what is loaded
        self.pending: list[tuple[int, dict[str, int], Callable[[], dict[str, int]]]] = []

    # ---- stream ----------------------------------------------------------------------------------------------
    def emit(self, data: NDArray[np.uint8]) -> None:
        """Append whole beats to the stream."""
        assert data.size % self.geometry.beat_bytes == 0
        self.chunks.append(data)
        self.beats += data.size // self.geometry.beat_bytes

    def emit_descriptor(self, values: dict[str, int], later: Callable[[], dict[str, int]] | None = None) -> None:
        """Append a descriptor; `later` gives the fields that are known when the whole stream is."""
        if later is not None:
            self.pending.append((len(self.chunks), values, later))
        self.emit(self.descriptor(values))

    def descriptor(self, values: dict[str, int]) -> NDArray[np.uint8]:
        """A packed descriptor."""
        return record_bytes(DESCRIPTOR.pack(values), self.geometry.descriptor_beats, self.geometry)

    def fill_burst(self) -> int:
        """Append zeros up to the end of a burst; how many beats."""
        padding = -self.beats % self.hw.memory.burst_beats
        self.emit(np.zeros(padding * self.geometry.beat_bytes, dtype=np.uint8))
        return padding

    # ---- whole program ---------------------------------------------------------------------------------------
    def program(self) -> Program:
        network, geometry = self.network, self.geometry
        self.check()
        schedule = build_schedule(network, geometry)
        sets = {
            index: row_sets(layer, geometry)
            for index, layer in enumerate(network.layers)
            if isinstance(layer, IntegerConv)
        }
        passes = [
            passes_of(step.layer, sets[step.index], geometry) if isinstance(step.layer, IntegerConv) else ()
            for step in schedule.steps
        ]
        plans: list[StepPlan] = []
        pieces: list[InputPiece] = []
        for step, step_passes in zip(schedule.steps, passes, strict=True):
            start = self.beats
            if step.layer is None:
                plan = self.move(step, schedule)
                if plan.op == Op.LOAD and step.target is not None and step.target.tensor.name == network.input.name:
                    pieces.append(InputPiece(start + geometry.descriptor_beats, step.rows))
            elif isinstance(step.layer, IntegerConv):
                plan = self.conv(step, step.layer, step_passes, schedule)
            else:
                plan = self.pool(step, step.layer, schedule)
            plans.append(replace(plan, beats=self.beats - start))
        self.emit_descriptor({"op": Op.END})
        self.fill_burst()
        self.segments.append(self.beats)
        for chunk, values, later in self.pending:
            self.chunks[chunk] = self.descriptor(values | later())
        bursts = np.diff([0, *self.segments]) // self.hw.memory.burst_beats
        fences = (number for number, plan in enumerate(plans) if plan.op == Op.FENCE)
        for number, count in zip(fences, bursts[1:], strict=True):
            plans[number] = replace(plans[number], bursts=int(count))
        stream = np.concatenate(self.chunks)
        return Program(
            hw=self.hw,
            network=self.given,
            layers=tuple(_work(layer) for layer in self.given.layers),
            steps=tuple(plans),
            stream=stream,
            address=0,
            folding=self.folding,
            pieces=tuple(pieces),
            output_address=self.results,
            bursts=int(bursts[0]),
        )

    @property
    def results(self) -> int:
        """Byte address of the int32 results: behind the finished stream."""
        return self.segments[-1] * self.geometry.beat_bytes

    def placement(self, stored: StoredMap | None, schedule: Schedule) -> Placement:
        """Where stored rows lie."""
        assert stored is not None
        memory, base = schedule.places[stored.name]
        return Placement(stored.tensor, stored.rows, memory, base, self.words_per_pixel(stored.tensor))

    def written(self, step: Step, schedule: Schedule) -> Placement | None:
        """The rows that a step writes: its rows inside the map it belongs to."""
        if step.target is None:
            return None
        whole = self.placement(step.target, schedule)
        skipped = (step.rows[0] - whole.rows[0]) * whole.tensor.width * whole.words_per_pixel
        return replace(whole, rows=step.rows, base=whole.base + skipped)

    def results_at(self) -> dict[str, int]:
        """Where the int32 results go."""
        return {"out_addr": self.results}

    def move(self, step: Step, schedule: Schedule) -> StepPlan:
        """A step without a layer."""
        if step.kind is Kind.LOAD:
            return self.load(step, schedule)
        if step.kind is Kind.STORE:
            return self.store(step, schedule)
        return self.fence()

    def store(self, step: Step, schedule: Schedule) -> StepPlan:
        """Rows of a map, word after word as they lie there, to where a later load finds them."""
        geometry = self.geometry
        source, destination = self.placement(step.source, schedule), step.target
        assert destination is not None
        words = source.words_per_pixel
        per_row = words * source.tensor.width
        skipped = (step.rows[0] - source.rows[0]) * per_row
        ahead = (step.rows[0] - destination.rows[0]) * per_row * geometry.load_beats

        def later() -> dict[str, int]:
            return {"out_addr": (self.loads[destination.name] + ahead) * geometry.beat_bytes}

        output = replace(source.tensor, height=step.rows[1] - step.rows[0])
        place = replace(source, rows=step.rows, base=source.base + skipped)
        pixels = output.height * output.width
        fields = self.walk(place, (1, 1), (1, 1), (0, 0, 0, 0), output)
        fields |= {name: 0 for name in fields if "key" in name}  # as they lie there: rotated
        windows = Tiling(pixels * words, 1, 1, geometry.load_beats - 1)
        fields |= {"op": Op.STORE, "tiles": pixels, "words": words, "gap": windows.gap}
        self.emit_descriptor(fields, later)
        return StepPlan(step.index, Op.STORE, step.rows, None, windows, store_words=pixels * words)

    def fence(self) -> StepPlan:
        """Everything before is in memory before anything behind is read; the next burst begins the next segment."""
        number = len(self.segments) + 1

        def later() -> dict[str, int]:
            beats = self.segments[number] - self.segments[number - 1]
            padding = self.segments[number - 1] - end
            return {"load_words": beats // self.hw.memory.burst_beats, "passes": padding}

        self.emit_descriptor({"op": Op.FENCE}, later)
        end = self.beats
        dropped = self.fill_burst()
        self.segments.append(self.beats)
        return StepPlan(-1, Op.FENCE, (0, 0), None, dropped=dropped)

    def load(self, step: Step, schedule: Schedule) -> StepPlan:
        """Rows that the host, or a store, has written into the stream."""
        geometry = self.geometry
        assert step.target is not None
        target = self.placement(step.target, schedule)
        self.loads[step.target.name] = self.beats + geometry.descriptor_beats
        fields = {"op": Op.LOAD, "target": target.memory, "out_base": target.base, "load_words": target.words}
        self.emit_descriptor(fields)
        self.emit(np.zeros(target.words * geometry.load_beats * geometry.beat_bytes, dtype=np.uint8))
        return StepPlan(-1, Op.LOAD, step.rows, target, load_words=target.words)

    # ---- what fits ---------------------------------------------------------------------------------------------
    def check(self) -> None:
        """Everything that can be said before placement."""
        network, hw = self.network, self.hw
        tensors = [network.input, *(layer.output for layer in network.layers)]
        for tensor in tensors:
            if not tensor.wide and tensor.bits > hw.act_bits:
                raise UserError(
                    f"{tensor.name}: {tensor.bits}-bit activations, '{hw.name}' has act_bits: {hw.act_bits}"
                )
            if max(tensor.height, tensor.width) >= 1 << (COORD_BITS - 1):
                raise UserError(
                    f"{tensor.name}: a {tensor.height}x{tensor.width} map, sides are limited to "
                    f"{(1 << (COORD_BITS - 1)) - 1}"
                )
        last = network.layers[-1]
        if not (isinstance(last, IntegerConv) and last.output.wide and last.output.height * last.output.width == 1):
            raise UserError(
                f"{last.name}: the last layer must be fully connected with int32 results, one per class; "
                f"this one gives a {last.output.height}x{last.output.width} map of {last.output.bits} bits"
            )
        for layer in network.layers:
            if layer.output.wide and layer is not last:
                raise UserError(f"{layer.name}: only the last layer may have int32 results")
            kernel = layer.weight.shape[2:] if isinstance(layer, IntegerConv) else layer.kernel
            for what, sides, bits in (("kernel", kernel, KERNEL_BITS), ("stride", layer.stride, STRIDE_BITS)):
                if max(sides) >= 1 << bits:
                    raise UserError(
                        f"{layer.name}: {what} {sides[0]}x{sides[1]}, sides are limited to {(1 << bits) - 1}"
                    )
            if isinstance(layer, IntegerConv):
                self.check_conv(layer)
            elif layer.kind == "avg" and layer.kernel[0] * layer.kernel[1] > 1 << SUM_BITS:
                raise UserError(
                    f"{layer.name}: an average over {layer.kernel[0]}x{layer.kernel[1]} codes, at most "
                    f"{1 << SUM_BITS} can be summed"
                )

    def check_conv(self, conv: IntegerConv) -> None:
        """Weight ring and accumulator width."""
        geometry = self.geometry
        source = self.network.tensor(conv.input)
        largest = (1 << source.bits) - 1
        flat = conv.weight.reshape(conv.weight.shape[0], -1)
        high = np.where(flat > 0, flat, 0).sum(axis=1) * largest
        low = np.where(flat < 0, flat, 0).sum(axis=1) * largest
        bias = self.hardware_bias(conv)
        for name, least, most, bits in (
            ("accumulators", low, high, geometry.acc_bits),
            ("accumulators with bias", low + np.minimum(bias, 0), high + np.maximum(bias, 0), geometry.acc_bits + 1),
        ):
            need = max(int(most.max()).bit_length(), int(-least.min() - 1).bit_length() if least.min() < 0 else 0) + 1
            if need > bits:
                raise UserError(
                    f"{conv.name}: {name} reach [{least.min()}, {most.max()}] and need {need} bits, '{self.hw.name}' "
                    f"has {bits}; set acc_bits to at least {geometry.acc_bits + need - bits}"
                )

    def hardware_bias(self, conv: IntegerConv) -> IntArray:
        """Bias with the input's zero point folded in: the array multiplies unsigned codes."""
        zero = self.network.tensor(conv.input).zero_point
        result: IntArray = conv.bias - zero * conv.weight.reshape(conv.weight.shape[0], -1).sum(axis=1)
        return result

    def words_per_pixel(self, tensor: IntegerTensor) -> int:
        """Activation words of one pixel."""
        return ceil(tensor.channels / self.geometry.word_elements)

    # ---- convolution -----------------------------------------------------------------------------------------------
    def walk(
        self,
        source: Placement,
        kernel: tuple[int, int],
        stride: tuple[int, int],
        padding: tuple[int, int, int, int],
        output: IntegerTensor,
    ) -> dict[str, int]:
        """Descriptor fields of the window generator."""
        groups = self.geometry.groups
        mask = (1 << 20) - 1
        per_pixel, width = source.words_per_pixel, source.tensor.width
        (kh, kw), (sy, sx), (top, _, left, _) = kernel, stride, padding
        back_y = width - (kw - 1)  # from the last tap of a kernel row to the first of the next, in pixels
        back_word = -((kh - 1) * width + kw - 1)
        back_row = sy * width - (output.width - 1) * sx
        start = -top * width - left
        return {
            "kernel_h": kh,
            "kernel_w": kw,
            "step_kx": per_pixel & mask,
            "step_ky": back_y * per_pixel & mask,
            "step_word": (1 + back_word * per_pixel) & mask,
            "key_ky": back_y % groups,
            "key_word": back_word % groups,
            "start_addr": (source.base + start * per_pixel) & mask,
            "start_key": start % groups,
            "start_x": -left,
            "start_y": -top,
            "step_pixel": sx * per_pixel & mask,
            "step_row": back_row * per_pixel & mask,
            "key_pixel": sx % groups,
            "key_row": back_row % groups,
            "stride_x": sx,
            "stride_y": sy,
            "in_w": width,
            "in_h": source.rows[1] - source.rows[0],
            "out_w": output.width,
            "source": source.memory,
        }

    def conv(
        self,
        step: Step,
        conv: IntegerConv,
        passes: tuple[PassPlan, ...],
        schedule: Schedule,
    ) -> StepPlan:
        geometry = self.geometry
        source, output = self.placement(step.source, schedule), conv.output
        kh, kw = conv.weight.shape[2], conv.weight.shape[3]
        pixels = output.height * output.width
        fields = self.walk(source, (kh, kw), conv.stride, conv.padding, output)
        fields |= {
            "op": Op.CONV,
            "pad_code": source.tensor.zero_point,
            "last_columns": (pixels - 1) % geometry.columns + 1,
            "passes": len(passes),
            **passes[0].tiling.fields(),
        }
        target = self.written(step, schedule)
        later: Callable[[], dict[str, int]] | None = None
        if target is None:
            fields |= {"wide": 1}
            later = self.results_at
        else:
            fields |= {
                "target": target.memory,
                "out_base": target.base,
                "out_stride": target.words_per_pixel,
                "tile_stride": target.words_per_pixel * geometry.columns,
                "low": conv.low,
                "high": conv.high,
                "zero": output.zero_point,
            }
        if step.residual is not None:
            operand = self.placement(step.residual, schedule)
            skipped = (step.rows[0] - operand.rows[0]) * operand.tensor.width * operand.words_per_pixel
            fields |= {
                "residual": 1,
                "residual_base": operand.base + skipped,
                "residual_zero": operand.tensor.zero_point,
            }
        self.emit_descriptor(fields, later)
        bias = self.hardware_bias(conv)
        weights: dict[tuple[tuple[int, ...], int], NDArray[np.uint8]] = {}
        for plan in passes:
            self.emit(record_bytes(plan.header(), geometry.header_beats, geometry))
            for f in plan.filters:
                self.emit(record_bytes(self.param(conv, f, bias), geometry.param_beats, geometry))
            key = (plan.filters, plan.word_offset)
            if key not in weights:
                weights[key] = self.weights(conv, plan)
            self.emit(weights[key])
        return StepPlan(step.index, Op.CONV, step.rows, target, passes=passes)

    def param(self, conv: IntegerConv, f: int, bias: IntArray) -> int:
        """The parameter record of filter `f` (-1: an idle row)."""
        if f < 0:
            return 0
        geometry = self.geometry
        word, inside = divmod(f, geometry.word_elements)
        group, element = divmod(inside, geometry.dot)
        return PARAM.pack(
            {
                "bias": int(bias[f]),
                "mult": int(conv.mult[f]),
                "shift": int(conv.shift[f]),
                "residual_mult": int(conv.residual_mult[f]) if conv.residual is not None else 0,
                "word": word,
                "group": group,
                "element": element,
                "valid": 1,
                "channel": f,
            }
        )

    def weights(self, conv: IntegerConv, plan: PassPlan) -> NDArray[np.uint8]:
        """Weight beats of a pass: for every step, one beat per row group."""
        geometry = self.geometry
        filters, per_group_in, kh, kw = conv.weight.shape
        per_group_out = filters // conv.groups
        words, channels = plan.words, plan.words * geometry.word_elements
        first_channel = plan.word_offset * geometry.word_elements
        # (row, word, ky, kx, group, element) is the order of the steps
        window = np.zeros((geometry.rows, channels, kh, kw), dtype=np.int64)
        for row, f in enumerate(plan.filters):
            if f >= 0:
                start = (f // per_group_out) * per_group_in - first_channel
                begin, end = max(0, start), min(channels, start + per_group_in)
                if begin < end:  # else none of the filter's channels is in this part
                    window[row, begin:end] = conv.weight[f, begin - start : end - start]
            elif geometry.row_bands[row].scheme is Scheme.BINARY:
                window[row] = 1  # it has no zero
        ordered = window.reshape(geometry.rows, words, geometry.groups, geometry.dot, kh, kw)
        ordered = ordered.transpose(0, 1, 4, 5, 2, 3).reshape(geometry.rows, -1, geometry.dot)
        steps = ordered.shape[1]
        beats = np.zeros((steps, len(geometry.row_groups), geometry.beat_bits), dtype=np.uint8)
        row = 0
        for band in geometry.bands:
            for other in range(row, row + band.rows):
                if (other - row) % geometry.band_height(band):
                    ordered[other] = packed_weights(ordered[other - 1], ordered[other])
            row += band.rows
        for index, group in enumerate(geometry.row_groups):
            band = geometry.row_bands[group.first_row]
            for i in range(group.rows):
                codes = weight_codes(ordered[group.first_row + i], band)
                bits = to_bits(codes, band.weight_bits).reshape(steps, group.row_bits)
                beats[:, index, i * group.row_bits : (i + 1) * group.row_bits] = bits
        return beats_to_bytes(beats)

    # ---- pooling ---------------------------------------------------------------------------------------------------
    def pool(self, step: Step, pool: IntegerPool, schedule: Schedule) -> StepPlan:
        geometry = self.geometry
        source, target = self.placement(step.source, schedule), self.written(step, schedule)
        assert target is not None
        words = source.words_per_pixel
        averaging = pool.kind == "avg"
        op = Op.AVG_POOL if averaging else Op.MAX_POOL
        reads = pool.kernel[0] * pool.kernel[1]
        gap = max(0, (geometry.word_elements if averaging else geometry.groups) - reads)
        pixels = pool.output.height * pool.output.width
        fields = self.walk(source, pool.kernel, pool.stride, pool.padding, pool.output)
        fields |= {
            "op": op,
            "pad_code": source.tensor.zero_point if averaging else 0,
            "tiles": pixels,
            "words": words,
            "gap": gap,
            "target": target.memory,
            "out_base": target.base,
            "passes": 1,
            "low": pool.low,
            "high": pool.high,
            "zero": pool.output.zero_point,
        }
        self.emit_descriptor(fields)
        windows = Tiling(pixels * words, reads, reads, gap)
        if averaging:
            plan = PassPlan((), 0, 0, words, 0, windows)
            self.emit(record_bytes(plan.header(), geometry.header_beats, geometry))
            bias = -source.tensor.zero_point * reads
            record = PARAM.pack({"bias": bias, "mult": pool.mult, "shift": pool.shift, "valid": 1})
            self.emit(record_bytes(record, geometry.param_beats, geometry))
            self.emit(np.zeros((geometry.rows - 1) * geometry.param_beats * geometry.beat_bytes, dtype=np.uint8))
            return StepPlan(step.index, op, step.rows, target, passes=(plan,))
        return StepPlan(step.index, op, step.rows, target, windows)


def _work(layer: IntegerConv | IntegerPool) -> LayerWork:
    pixels = layer.output.height * layer.output.width
    products = layer.weight[0].size if isinstance(layer, IntegerConv) else 0
    return LayerWork(layer.name, layer.output.channels, products, pixels)
