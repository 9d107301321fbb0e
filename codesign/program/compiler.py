"""The compiler: an integer network and a hardware description to a program."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from codesign._typing import IntArray
from codesign.arch.hardware import Hardware
from codesign.errors import UserError, option
from codesign.integer.network import (
    IntegerConv,
    IntegerNetwork,
    IntegerPool,
    multiplier_of,
)
from codesign.program.accumulators import check_lines, check_sums, hardware_bias
from codesign.program.dealing import rows_of
from codesign.program.depthwise import reads_of, windows_of
from codesign.program.images import Choose, plan_images
from codesign.program.input_folding import apply_fold
from codesign.program.packing import (
    record_bytes,
)
from codesign.program.plan import PassPlan, Placement, Plan, StepPlan, result_words
from codesign.program.planner import PlannedStep, Planner
from codesign.program.program import InputPiece, Program
from codesign.program.schedule import Kind
from codesign.program.shapes import ConvShape, MapShape, Pooled, PoolShape, shape_of
from codesign.program.weight_beats import high_rows, row_weights, second_lines, tap_weights
from codesign.rtl.geometry import PARAM_BITS
from codesign.rtl.layout import Op, code_number


def compile_network(network: IntegerNetwork, hw: Hardware, images: int = 1, choose: Choose | None = None) -> Program:
    """Compile `network` for `hw`, to compute so many images from one start (`codesign.program.images`).

    Of several images there are several plans; `choose` takes one. With `codesign.sim.timing.plan_timing.fastest` it is
    never slower than as many starts, if a beat takes no longer than the memory's latency.

    Raises:
        UserError: something does not fit; the message names the layer, the limit and by how much it is exceeded.
    """
    return _Compiler(network, hw, images, choose).program()


def plan_network(network: IntegerNetwork, hw: Hardware, images: int = 1, choose: Choose | None = None) -> Plan:
    """The plan of the program that `compile_network` makes, without packing it; UserError as there."""
    return _Compiler(network, hw, images, choose).plan


class _Compiler:
    def __init__(self, network: IntegerNetwork, hw: Hardware, images: int, choose: Choose | None = None) -> None:
        needed = multiplier_of(network).bits
        if needed > hw.multiplier_bits:
            raise UserError(
                f"network '{network.name}': requantizes with {needed} bits, {hw.name} has {hw.multiplier_bits}: give "
                f"it 'multiplier_bits: {needed}' or import the network with "
                f"{option('multiplier_bits')} {hw.multiplier_bits}"
            )
        self.given = network
        self.hw = hw
        planner = Planner(shape_of(network), hw)
        self.geometry = planner.geometry
        self.shape = planner.network
        self.network, self.folding = apply_fold(network, planner.network.input, planner.fold)
        rows = [rows_of(layer) for layer in network.layers if isinstance(layer, IntegerConv)]
        self.steps, self.plan = plan_images(planner, rows, images, choose)
        paired: dict[int, set[int]] = {}
        split: dict[int, set[int]] = {}
        for step in self.plan.steps:
            for item in step.passes:
                high = high_rows(item, self.geometry)
                paired.setdefault(step.layer, set()).update(item.filters[row] for row in high)
                layer = self.network.layers[step.layer]
                if isinstance(layer, IntegerConv) and self.reads_narrow(layer):
                    second = second_lines(item, self.geometry)
                    split.setdefault(step.layer, set()).update(item.filters[row] for row in second)
        for index, layer in enumerate(self.network.layers):
            if isinstance(layer, IntegerConv):
                source = self.network.tensor(layer.input)
                check_sums(layer, source, paired.get(index, set()), self.geometry)
                check_lines(layer, source, sorted(split.get(index, set())), self.geometry)
        self.zeros = {item.name: item.zero_point for item in (network.input, *(x.output for x in network.layers))}
        self.chunks: list[NDArray[np.uint8]] = []
        self.beats = 0

    # ---- stream ----------------------------------------------------------------------------------------------
    def emit(self, data: NDArray[np.uint8]) -> None:
        """Append whole beats to the stream."""
        assert data.size % self.geometry.beat_bytes == 0
        self.chunks.append(data)
        self.beats += data.size // self.geometry.beat_bytes

    def emit_zeros(self, beats: int) -> None:
        """Append beats of zeros."""
        self.emit(np.zeros(beats * self.geometry.beat_bytes, dtype=np.uint8))

    def emit_descriptor(self, values: dict[str, int]) -> None:
        """Append a packed descriptor."""
        self.emit(record_bytes(self.geometry.descriptor.pack(values), self.geometry.descriptor_beats, self.geometry))

    # ---- whole program ---------------------------------------------------------------------------------------
    def program(self) -> Program:
        plan, geometry = self.plan, self.geometry
        ends = list(accumulate(step.beats for step in plan.steps))
        self.loads = {  # first beat of what is loaded
            (step.image, planned.step.target.name): end - step.beats + geometry.descriptor_beats
            for planned, step, end in zip(self.steps, plan.steps, ends, strict=True)
            if step.op == Op.LOAD and planned.step.target is not None
        }
        for planned, step, end in zip(self.steps, plan.steps, ends, strict=True):
            self.step(planned, step)
            assert self.beats == end, "the plan and the stream disagree"
        self.emit_descriptor({"op": Op.END})
        self.emit_zeros(plan.beats - self.beats)
        return Program(
            **vars(plan),
            network=self.given,
            stream=np.concatenate(self.chunks),
            address=0,
            folding=self.folding,
            pieces=tuple(sorted(self.pieces(), key=lambda piece: piece.image)),
            output_address=self.results_of(0),
        )

    def pieces(self) -> Iterator[InputPiece]:
        """Where rows of images are loaded, in the order of the stream."""
        for planned, plan in zip(self.steps, self.plan.steps, strict=True):
            target = planned.step.target
            if planned.step.kind is Kind.LOAD and target is not None and target.tensor.name == self.network.input.name:
                begin = self.loads[plan.image, target.name]
                size = plan.load_words // plan.together * self.geometry.load_beats
                for number in range(plan.together):
                    yield InputPiece(begin + number * size, planned.step.rows, plan.image + number)

    def results_of(self, image: int) -> int:
        """Byte address of an image's results: behind the finished stream, those of the images before in between."""
        size = 4 * result_words(self.plan)
        return self.plan.beats * self.geometry.beat_bytes + image * size

    def step(self, planned: PlannedStep, plan: StepPlan) -> None:
        """Append what tells the accelerator to do a step."""
        match plan.op:
            case Op.LOAD:
                self.load(plan)
            case Op.STORE:
                self.store(planned, plan)
            case Op.FENCE:
                fields = {"op": Op.FENCE, "load_words": plan.bursts, "passes": plan.dropped}
                self.emit_descriptor(fields)
                self.emit_zeros(plan.dropped)
            case Op.CONV | Op.DEPTHWISE if isinstance(planned.step.layer, ConvShape):
                self.conv(planned, plan)
            case _:
                self.pool(planned, plan)

    def store(self, planned: PlannedStep, plan: StepPlan) -> None:
        """Rows of a map, word after word as they lie there, to where a later load finds them, or as the result."""
        geometry, source, destination = self.geometry, planned.source, planned.step.target
        assert source is not None
        assert plan.windows is not None
        words = source.words_per_pixel
        per_row = words * source.tensor.width
        skipped = (plan.rows[0] - source.rows[0]) * per_row
        address = self.results_of(plan.image)
        if destination is not None:
            ahead = (plan.rows[0] - destination.rows[0]) * per_row * geometry.load_beats
            address = (self.loads[plan.image, destination.name] + ahead) * geometry.beat_bytes
        output = replace(source.tensor, height=plan.rows[1] - plan.rows[0])
        place = replace(source, rows=plan.rows, base=source.base + skipped)
        pixels = output.height * output.width
        fields = self.walk(place, (1, 1), (1, 1), (0, 0, 0, 0), output)
        if plan.together == 1:  # as they lie there: rotated; as pixels of one map, each as that of an image
            fields |= {name: 0 for name in fields if "key" in name}
        fields |= {"op": Op.STORE, "tiles": pixels, "words": words, "gap": plan.windows.gap}
        fields |= {"out_addr": address}
        self.emit_descriptor(fields)

    def load(self, plan: StepPlan) -> None:
        """Rows that the host, or a store, has written into the stream."""
        target = plan.written
        assert target is not None
        fields = {"op": Op.LOAD, "target": target.memory, "out_base": target.base, "load_words": target.words}
        fields |= {"early": plan.early}
        self.emit_descriptor(fields)
        self.emit_zeros(target.words * self.geometry.load_beats)

    def reads_narrow(self, conv: IntegerConv) -> bool:
        """Whether two codes of the input share a place."""
        return self.geometry.is_narrow(self.shape.tensor(conv.input).bits)

    def pad_code(self, tensor: MapShape) -> int:
        """What the places of padding hold."""
        zero, geometry = self.zeros[tensor.name], self.geometry
        return zero | zero << geometry.narrow_bits if geometry.is_narrow(tensor.bits) else zero

    # ---- convolution -----------------------------------------------------------------------------------------------
    def walk(
        self,
        source: Placement,
        kernel: tuple[int, int],
        stride: tuple[int, int],
        padding: tuple[int, int, int, int],
        output: MapShape,
        pairs: bool = False,
    ) -> dict[str, int]:
        """Descriptor fields of the window generator."""
        groups = self.geometry.groups
        mask = (1 << 20) - 1
        per_pixel, width = source.words_per_pixel, source.tensor.width
        (kh, kw), (sy, sx), (top, _, left, _) = kernel, stride, padding
        at_once = 2 if pairs else 1
        odd = kw % at_once
        kw = -(-kw // at_once)
        across = (kw - 1) * at_once
        back_y = width - across  # from the last tap of a kernel row to the first of the next, in pixels
        if odd and self.geometry.pairs_cross_rows:
            # a row's first pair begins with its second tap, or is behind one that does
            back_y += 1
            across -= kh % 2 == 0
        back_word = -((kh - 1) * width + across)
        back_row = sy * width - (output.width - 1) * sx
        start = -top * width - left
        return {
            "kernel_h": kh,
            "kernel_w": kw,
            "pairs": pairs,
            "odd": odd,
            "step_kx": at_once * per_pixel & mask,
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

    def conv(self, planned: PlannedStep, plan: StepPlan) -> None:
        geometry, passes, part = self.geometry, plan.passes, planned.step.layer
        source, operand, target = planned.source, planned.residual, plan.written
        conv = self.network.layers[plan.layer]
        assert isinstance(conv, IntegerConv)
        assert isinstance(part, ConvShape)
        assert source is not None
        pixels = part.computed.height * part.computed.width
        fields = self.walk(source, part.kernel, part.stride, part.padding, part.computed, plan.pairs)
        if planned.apart:
            still = dict.fromkeys(("step_pixel", "key_pixel", "stride_x", "stride_y"), 0)
            fields |= {**still, "step_row": source.words_per_pixel, "key_row": 1 % geometry.groups}
        if planned.alike:
            fields |= {name: 0 for name in fields if "key" in name}
        fields |= {
            "start_key": (fields["start_key"] + planned.key) % geometry.groups,
            "op": plan.op,
            "half": plan.half,
            "pad_code": self.pad_code(source.tensor),
            "last_columns": (pixels - 1) % geometry.columns + 1,
            "passes": len(passes),
            # a set of filters that does not fit its rows' rings is cut to single tiles, others walk all
            **max((item.tiling for item in passes), key=lambda tiling: tiling.count).fields(),
            **({"twos": passes[0].twos} if geometry.result_rows == 2 else {}),
        }
        if plan.op == Op.DEPTHWISE:
            fields |= self.windows(plan, source, part)
        if target is None:
            fields |= {"wide": 1, "out_addr": self.results_of(plan.image)}
            if planned.apart:
                fields |= {"tile_stride": result_words(self.plan)}
        else:
            fields |= self.written(target, conv)
        if part.pooled is not None:
            fields |= self.pooled(part, part.pooled, fields["tile_stride"])
        fields |= self.modes(source, target, operand)
        if operand is not None:
            skipped = (plan.rows[0] - operand.rows[0]) * operand.tensor.width * operand.words_per_pixel
            fields |= {
                "residual": 1,
                "residual_base": operand.base + skipped,
                "residual_zero": self.zeros[operand.tensor.name],
            }
        self.emit_descriptor(fields)
        bias = hardware_bias(conv, self.network.tensor(conv.input))
        weights: dict[tuple[tuple[int, ...], int], NDArray[np.uint8]] = {}
        for item in passes:
            self.emit(record_bytes(item.header(geometry), geometry.header_beats, geometry))
            self.emit(self.params(self.row_params(conv, item, bias, part.output), item))
            key = (item.filters, item.word_offset)
            if key not in weights:
                if item.taps:
                    weights[key] = tap_weights(conv.weight[:, 0], part.input_bits, item, plan.pairs, geometry)
                else:
                    weights[key] = row_weights(conv, part.input_bits, item, plan.half, geometry)
            self.emit(weights[key])

    def written(self, target: Placement, layer: IntegerConv | IntegerPool) -> dict[str, int]:
        """Descriptor fields of results that leave `columns` pixels at a time."""
        return {
            "target": target.memory,
            "out_base": target.base,
            "out_stride": target.words_per_pixel,
            "tile_stride": target.words_per_pixel * self.geometry.columns,
            "low": layer.low,
            "high": layer.high,
            "zero": layer.output.zero_point,
        }

    def windows(self, plan: StepPlan, source: Placement, part: ConvShape | PoolShape) -> dict[str, int]:
        """Descriptor fields of a step on the depthwise unit that those of a convolution do not say."""
        pixels, codes = part.output.height * part.output.width, self.geometry.word_codes(source.tensor.bits)
        found = windows_of(pixels, reads_of(part, plan.pairs, self.geometry), codes, self.geometry)
        return {
            "tiles": found.number,
            "spaced": found.spaced,
            "alike": isinstance(part, PoolShape),
            "load_words": plan.passes[0].taps * self.geometry.tap_beats,
        }

    def modes(self, source: Placement, target: Placement | None, operand: Placement | None = None) -> dict[str, int]:
        """Descriptor fields that say how wide codes are; none where they have one width."""
        hw = self.hw
        if not hw.has_modes:
            return {}
        stored = {"in_code": source, "out_code": target, "residual_code": operand}
        return {
            **{name: code_number(hw.code_bits(at.tensor.bits)) for name, at in stored.items() if at is not None},
            "pixel_words": operand.words_per_pixel if operand is not None else 0,
        }

    def pooled(self, part: ConvShape, pooled: Pooled, tile_stride: int) -> dict[str, int]:
        """Descriptor fields of results of which maxima are written; the results themselves would have `tile_stride`."""
        return {
            "pools": 1,
            "threes": pooled.kernel == 3,
            "halo": pooled.halo,
            "row_tiles": part.computed.width // self.geometry.columns,
            "tile_stride": tile_stride // 2,
        }

    def row_params(self, conv: IntegerConv, plan: PassPlan, bias: IntArray, output: MapShape) -> list[int]:
        """The parameter records of a pass that writes `output`, as post-processing takes them: of rows or twos of them.

        Of two rows that hold one filter the second one has its record.
        """
        if plan.twos:
            rows = zip(*np.split(np.array(plan.filters), 2), strict=True)
            return [self.param(conv, int(f), bias, output) for two in rows for f in two]
        high = high_rows(plan, self.geometry)
        low = {row - 1 for row in high}
        if self.reads_narrow(conv):
            second = second_lines(plan, self.geometry)
            high, low = high | set(second), low | set(second.values())
        pair = self.geometry.param.pack({"pair": 1}) if high else 0
        return [
            0 if row in low else self.param(conv, f, bias, output) | (pair if row in high else 0)
            for row, f in enumerate(plan.filters)
        ]

    def param(self, conv: IntegerConv, f: int, bias: IntArray, output: MapShape) -> int:
        """The parameter record of filter `f` (-1: an idle row) of a convolution that writes `output`."""
        if f < 0:
            return 0
        bits = self.geometry.act_bits if output.wide else output.bits
        factors = {"bias": int(bias[f]), "mult": int(conv.mult[f]), "shift": int(conv.shift[f])}
        if conv.residual is not None:
            factors["residual_mult"] = int(conv.residual_mult[f])
        return self.record(f, bits, factors)

    def record(self, channel: int, bits: int, factors: dict[str, int]) -> int:
        """The parameter record of an output channel of so many bits."""
        geometry = self.geometry
        word, inside = divmod(channel, geometry.word_codes(bits))
        group, element = divmod(inside, geometry.group_codes(bits))
        place = {"word": word, "group": group, "element": element, "valid": 1, "channel": channel}
        return geometry.param.pack({**factors, **place})

    def params(self, records: Sequence[int], plan: PassPlan) -> NDArray[np.uint8]:
        """The beats of a pass's parameter records, those of the first rows given, zeros for the others."""
        word = sum(record << PARAM_BITS * row for row, record in enumerate(records))
        return record_bytes(word, plan.param_beats(self.geometry), self.geometry)

    # ---- pooling ---------------------------------------------------------------------------------------------------
    def pool(self, planned: PlannedStep, plan: StepPlan) -> None:
        geometry, part = self.geometry, planned.step.layer
        source, target = planned.source, plan.written
        pool = self.network.layers[plan.layer]
        assert isinstance(part, PoolShape)
        assert source is not None
        assert target is not None
        if plan.op == Op.DEPTHWISE:
            assert isinstance(pool, IntegerPool)
            self.average(pool, part, source, plan)
            return
        averaging = plan.op == Op.AVG_POOL
        fields = self.walk(source, part.kernel, part.stride, part.padding, part.output, pairs=plan.pairs)
        fields |= {
            "op": plan.op,
            "pad_code": self.pad_code(source.tensor) if averaging else 0,
            "tiles": part.output.height * part.output.width,
            "words": source.words_per_pixel,
            "gap": plan.tilings[0].gap,
            "target": target.memory,
            "out_base": target.base,
            "passes": 1,
            **self.modes(source, target),
        }
        if "pixel_words" in fields:
            fields["pixel_words"] = target.words_per_pixel
        if planned.step.kind is Kind.COPY:
            zero = self.zeros[source.tensor.name]
            self.emit_descriptor(fields | {"low": 0, "high": (1 << part.output.bits) - 1, "zero": zero})
            return
        assert isinstance(pool, IntegerPool)
        self.emit_descriptor(fields | {"low": pool.low, "high": pool.high, "zero": pool.output.zero_point})
        if averaging:
            (item,) = plan.passes
            self.emit(record_bytes(item.header(geometry), geometry.header_beats, geometry))
            bias = -self.zeros[source.tensor.name] * part.kernel[0] * part.kernel[1]
            record = geometry.param.pack({"bias": bias, "mult": pool.mult, "shift": pool.shift, "valid": 1})
            self.emit(self.params([record], item))

    def average(self, pool: IntegerPool, part: PoolShape, source: Placement, plan: StepPlan) -> None:
        """Average pooling on the depthwise unit: a convolution with weights of 1."""
        geometry, target = self.geometry, plan.written
        assert target is not None
        pixels = part.output.height * part.output.width
        fields = self.walk(source, part.kernel, part.stride, part.padding, part.output, plan.pairs)
        fields |= {
            "op": Op.DEPTHWISE,
            "pad_code": self.pad_code(source.tensor),
            "last_columns": (pixels - 1) % geometry.columns + 1,
            "passes": len(plan.passes),
            **plan.passes[0].tiling.fields(),
            **self.windows(plan, source, part),
            **self.written(target, pool),
            **self.modes(source, target),
        }
        self.emit_descriptor(fields)
        bias = -self.zeros[source.tensor.name] * part.kernel[0] * part.kernel[1]
        factors = {"bias": bias, "mult": pool.mult, "shift": pool.shift}
        ones = np.ones((source.tensor.channels, 1, 1 + plan.pairs), dtype=np.int64)
        for item in plan.passes:
            records = [self.record(f, target.tensor.bits, factors) for f in item.filters if f >= 0]
            self.emit(record_bytes(item.header(geometry), geometry.header_beats, geometry))
            self.emit(self.params(records, item))
            self.emit(tap_weights(ones, source.tensor.bits, item, plan.pairs, geometry))
