"""The compiler: an integer network and a hardware description to a program."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import numpy as np
from numpy.typing import NDArray

from codesign.arch.hardware import Band, Hardware
from codesign.arch.scheme import Scheme
from codesign.errors import UserError
from codesign.program.packing import beats_to_bytes, record_bytes, to_bits, weight_codes
from codesign.program.placement import MapUse, lives, place_maps
from codesign.program.program import LayerPlan, PassPlan, Placement, Program
from codesign.quant.integer_network import IntegerConv, IntegerLayer, IntegerNetwork, IntegerPool, IntegerTensor
from codesign.rtl.geometry import COORD_BITS, SUM_BITS, Geometry
from codesign.rtl.layout import DESCRIPTOR, PARAM, PASS_HEADER, Op

IntArray = NDArray[np.int64]


def compile_network(network: IntegerNetwork, hw: Hardware) -> Program:
    """Compile `network` for `hw`.

    Raises:
        UserError: something does not fit; the message names the layer, the limit and by how much it is exceeded.
    """
    return _Compiler(network, hw).program()


def deal_filters(conv: IntegerConv, bands: Sequence[Band]) -> list[list[int]]:
    """Filters of each band: every filter goes to a band that can hold its weights, so that passes are few.

    A band holds the filters of its own scheme with at most its bits; a fixed band also holds PoT filters whose
    integer weights fit. Filters with the fewest choices are dealt first, each to the band that then needs the fewest
    passes, the narrowest one in doubt.
    """
    largest = np.abs(conv.weight).reshape(conv.weight.shape[0], -1).max(axis=1)

    def holds(band: Band, scheme: Scheme, bits: int, magnitude: int) -> bool:
        if band.scheme == scheme:
            return bits <= band.weight_bits
        return band.scheme == Scheme.FIXED and magnitude <= (1 << (band.weight_bits - 1)) - 1

    choices: dict[tuple[int, ...], list[int]] = {}
    for f, (scheme, bits) in enumerate(zip(conv.scheme, conv.weight_bits, strict=True)):
        able = tuple(i for i, band in enumerate(bands) if holds(band, scheme, bits, int(largest[f])))
        if not able:
            offered = ", ".join(f"{band.scheme}{band.weight_bits}" for band in bands)
            raise UserError(
                f"{conv.name}: filter {f} has {scheme}{bits} weights, the bands hold {offered}; add a band "
                f"{{scheme: {scheme}, weight_bits: {bits}, rows: 1}}"
            )
        choices.setdefault(able, []).append(f)

    dealt: list[list[int]] = [[] for _ in bands]
    for able, filters in sorted(choices.items(), key=lambda item: (len(item[0]), item[0])):
        for f in filters:
            best = min(able, key=lambda i: (ceil((len(dealt[i]) + 1) / bands[i].rows), bands[i].weight_bits, i))
            dealt[best].append(f)
    return [sorted(filters) for filters in dealt]


class _Compiler:
    def __init__(self, network: IntegerNetwork, hw: Hardware) -> None:
        self.network = network
        self.hw = hw
        self.geometry = Geometry(hw)
        self.chunks: list[NDArray[np.uint8]] = []
        self.beats = 0

    # ---- stream ----------------------------------------------------------------------------------------------
    def emit(self, data: NDArray[np.uint8]) -> None:
        """Append whole beats to the stream."""
        assert data.size % self.geometry.beat_bytes == 0
        self.chunks.append(data)
        self.beats += data.size // self.geometry.beat_bytes

    def emit_descriptor(self, **values: int) -> None:
        self.emit(record_bytes(DESCRIPTOR.pack(values), self.geometry.descriptor_beats, self.geometry))

    # ---- whole program ---------------------------------------------------------------------------------------
    def program(self) -> Program:
        network, geometry = self.network, self.geometry
        self.check()
        placements = self.place()
        passes = [self.plan_passes(layer) if isinstance(layer, IntegerConv) else (1, ()) for layer in network.layers]

        source = placements[network.input.name]
        self.emit_descriptor(op=Op.LOAD, target=source.memory, out_base=source.base, load_words=source.words)
        input_beat = self.beats
        self.emit(np.zeros(source.words * geometry.load_beats * geometry.beat_bytes, dtype=np.uint8))

        # results lie behind the stream, whose length is known only at the end: descriptors of the wide layer are
        # emitted with the address of a stream of the same length
        results = self.stream_bytes(passes)
        plans: list[LayerPlan] = []
        for layer, (words, plan) in zip(network.layers, passes, strict=True):
            start = self.beats
            if isinstance(layer, IntegerConv):
                entry = self.conv(layer, words, plan, placements, results)
            else:
                entry = self.pool(layer, placements)
            plans.append(_with_beats(entry, self.beats - start))
        self.emit_descriptor(op=Op.END)
        padding = -self.beats % self.hw.memory.burst_beats
        self.emit(np.zeros(padding * geometry.beat_bytes, dtype=np.uint8))
        stream = np.concatenate(self.chunks)
        assert stream.size == results
        return Program(self.hw, network, tuple(plans), stream, 0, input_beat, results, placements)

    def stream_bytes(self, passes: Sequence[tuple[int, tuple[PassPlan, ...]]]) -> int:
        """Length of the finished stream in bytes."""
        geometry = self.geometry
        beats = self.beats + geometry.descriptor_beats
        for layer, (words, plan) in zip(self.network.layers, passes, strict=True):
            beats += geometry.descriptor_beats
            per_pass = 1 + geometry.param_row_beats
            if isinstance(layer, IntegerConv):
                steps = words * layer.weight.shape[2] * layer.weight.shape[3] * geometry.columns
                beats += len(plan) * (per_pass + steps * len(geometry.row_groups))
            elif layer.kind == "avg":
                beats += per_pass
        burst = self.hw.memory.burst_beats
        return ceil(beats / burst) * burst * geometry.beat_bytes

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

    # ---- placement -----------------------------------------------------------------------------------------------
    def words_per_pixel(self, tensor: IntegerTensor) -> int:
        return ceil(tensor.channels / self.geometry.word_elements)

    def place(self) -> dict[str, Placement]:
        """Activation memory and address of every map that stays on chip."""
        network = self.network
        readers: dict[str, list[int]] = {}
        apart: dict[str, set[str]] = {}
        for index, layer in enumerate(network.layers):
            readers.setdefault(layer.input, []).append(index)
            if isinstance(layer, IntegerConv) and layer.residual is not None:
                readers.setdefault(layer.residual, []).append(index)
                if layer.residual == layer.input:
                    raise UserError(
                        f"{layer.name}: the residual operand {layer.residual} is the map the layer convolves; "
                        "they must be different maps"
                    )
                apart.setdefault(layer.residual, set()).add(layer.input)
                apart.setdefault(layer.input, set()).add(layer.residual)
        order = [network.input.name, *(layer.output.name for layer in network.layers)]
        dies = lives(order, readers)
        uses: list[MapUse] = []
        for born, name in enumerate(order):
            tensor = network.tensor(name)
            if tensor.wide:
                continue
            producer: IntegerLayer | None = network.layers[born - 1] if born else None
            residual = producer.residual if isinstance(producer, IntegerConv) else None
            uses.append(
                MapUse(
                    name=name,
                    words=tensor.height * tensor.width * self.words_per_pixel(tensor),
                    born=born - 1,
                    dies=dies[name],
                    apart_from=tuple(sorted(apart.get(name, ()))),
                    may_replace=residual if residual is not None and dies[residual] == born - 1 else None,
                    prefers_not=producer.input if producer is not None else None,
                )
            )
        places = place_maps(uses, self.geometry.act_depth)
        return {
            name: Placement(network.tensor(name), memory, base, self.words_per_pixel(network.tensor(name)))
            for name, (memory, base) in places.items()
        }

    # ---- convolution -----------------------------------------------------------------------------------------------
    def plan_passes(self, conv: IntegerConv) -> tuple[int, tuple[PassPlan, ...]]:
        """Words of the window loop and the filters of every pass."""
        geometry, bands = self.geometry, self.hw.bands
        source = self.network.tensor(conv.input)
        total_words = self.words_per_pixel(source)
        filters = conv.weight.shape[0]
        per_group_in, per_group_out = conv.weight.shape[1], filters // conv.groups
        dealt = deal_filters(conv, bands)
        count = max(ceil(len(of_band) / band.rows) for of_band, band in zip(dealt, bands, strict=True))

        rows_of_pass: list[tuple[int, ...]] = []
        masks: list[int] = []
        spans: list[tuple[int, int]] = []
        for p in range(count):
            rows: list[int] = []
            mask = 0
            for index, (of_band, band) in enumerate(zip(dealt, bands, strict=True)):
                chosen = of_band[p * band.rows : (p + 1) * band.rows]
                mask |= bool(chosen) << index
                rows += [*chosen, *([-1] * (band.rows - len(chosen)))]
            groups = [f // per_group_out for f in rows if f >= 0]
            first = min(groups) * per_group_in // geometry.word_elements
            last = ((max(groups) + 1) * per_group_in - 1) // geometry.word_elements
            rows_of_pass.append(tuple(rows))
            masks.append(mask)
            spans.append((first, last))
        words = max(last - first + 1 for first, last in spans)
        steps = words * conv.weight.shape[2] * conv.weight.shape[3] * geometry.columns
        if steps > geometry.weight_depth:
            raise UserError(
                f"{conv.name}: a filter takes {steps} weight words of {geometry.dot}, a row's ring holds "
                f"{geometry.weight_depth}; set buffers.weight_words to {1 << (steps - 1).bit_length()}"
            )
        plan = tuple(
            PassPlan(rows, mask, min(first, total_words - words))
            for rows, mask, (first, _) in zip(rows_of_pass, masks, spans, strict=True)
        )
        return words, plan

    def walk(
        self,
        source: Placement,
        words: int,
        kernel: tuple[int, int],
        stride: tuple[int, int],
        padding: tuple[int, int, int, int],
        output: IntegerTensor,
    ) -> dict[str, int]:
        """Descriptor fields of the window generator."""
        columns = self.geometry.columns
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
            "words": words,
            "step_kx": per_pixel & mask,
            "step_ky": back_y * per_pixel & mask,
            "step_word": (1 + back_word * per_pixel) & mask,
            "key_ky": back_y % columns,
            "key_word": back_word % columns,
            "start_addr": (source.base + start * per_pixel) & mask,
            "start_key": start % columns,
            "start_x": -left,
            "start_y": -top,
            "step_pixel": sx * per_pixel & mask,
            "step_row": back_row * per_pixel & mask,
            "key_pixel": sx % columns,
            "key_row": back_row % columns,
            "stride_x": sx,
            "stride_y": sy,
            "in_w": width,
            "in_h": source.tensor.height,
            "out_w": output.width,
            "source": source.memory,
        }

    def conv(
        self,
        conv: IntegerConv,
        words: int,
        passes: tuple[PassPlan, ...],
        placements: dict[str, Placement],
        results: int,
    ) -> LayerPlan:
        geometry = self.geometry
        source, output = placements[conv.input], conv.output
        kh, kw = conv.weight.shape[2], conv.weight.shape[3]
        pixels = output.height * output.width
        tiles = ceil(pixels / geometry.columns)
        steps = words * kh * kw * geometry.columns
        gap = max(0, geometry.rows - steps)
        fields = self.walk(source, words, (kh, kw), conv.stride, conv.padding, output)
        fields |= {
            "op": Op.CONV,
            "pad_code": source.tensor.zero_point,
            "tiles": tiles,
            "last_columns": pixels - (tiles - 1) * geometry.columns,
            "passes": len(passes),
            "steps": steps,
            "gap": gap,
        }
        if output.wide:
            fields |= {"wide": 1, "out_addr": results}
        else:
            target = placements[output.name]
            fields |= {
                "target": target.memory,
                "out_base": target.base,
                "out_stride": target.words_per_pixel,
                "tile_stride": target.words_per_pixel * geometry.columns,
                "low": conv.low,
                "high": conv.high,
                "zero": output.zero_point,
            }
        if conv.residual is not None:
            operand = placements[conv.residual]
            fields |= {
                "residual": 1,
                "residual_base": operand.base,
                "residual_zero": operand.tensor.zero_point,
            }
        self.emit_descriptor(**fields)
        bias = self.hardware_bias(conv)
        for plan in passes:
            self.emit(
                record_bytes(PASS_HEADER.pack({"word_offset": plan.word_offset, "bands": plan.bands}), 1, geometry)
            )
            for f in plan.filters:
                self.emit(record_bytes(self.param(conv, f, bias), geometry.param_beats, geometry))
            self.emit(self.weights(conv, plan, words))
        products = conv.weight[0].size
        return LayerPlan(
            name=conv.name,
            op=Op.CONV,
            m=conv.weight.shape[0],
            k=products,
            n=pixels,
            tiles=tiles,
            steps=steps,
            gap=gap,
            wide=output.wide,
            passes=passes,
            beats=0,
            weight_beats=steps * len(geometry.row_groups),
            macs=conv.weight.shape[0] * products * pixels,
        )

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

    def weights(self, conv: IntegerConv, plan: PassPlan, words: int) -> NDArray[np.uint8]:
        """Weight beats of a pass: for every step, one beat per row group."""
        geometry = self.geometry
        filters, per_group_in, kh, kw = conv.weight.shape
        per_group_out = filters // conv.groups
        channels = words * geometry.word_elements
        first_channel = plan.word_offset * geometry.word_elements
        # (row, word, ky, kx, group, element) is the order of the steps
        window = np.zeros((geometry.rows, channels, kh, kw), dtype=np.int64)
        for row, f in enumerate(plan.filters):
            if f >= 0:
                start = (f // per_group_out) * per_group_in - first_channel
                window[row, start : start + per_group_in] = conv.weight[f]
        ordered = window.reshape(geometry.rows, words, geometry.columns, geometry.dot, kh, kw)
        ordered = ordered.transpose(0, 1, 4, 5, 2, 3).reshape(geometry.rows, -1, geometry.dot)
        steps = ordered.shape[1]
        beats = np.zeros((steps, len(geometry.row_groups), geometry.beat_bits), dtype=np.uint8)
        for index, group in enumerate(geometry.row_groups):
            band = geometry.row_bands[group.first_row]
            for i in range(group.rows):
                codes = weight_codes(ordered[group.first_row + i], band.scheme.value, band.weight_bits)
                bits = to_bits(codes, band.weight_bits).reshape(steps, group.row_bits)
                beats[:, index, i * group.row_bits : (i + 1) * group.row_bits] = bits
        return beats_to_bytes(beats)

    # ---- pooling ---------------------------------------------------------------------------------------------------
    def pool(self, pool: IntegerPool, placements: dict[str, Placement]) -> LayerPlan:
        geometry = self.geometry
        source, target = placements[pool.input], placements[pool.output.name]
        words = source.words_per_pixel
        averaging = pool.kind == "avg"
        op = Op.AVG_POOL if averaging else Op.MAX_POOL
        steps = pool.kernel[0] * pool.kernel[1]
        drain = geometry.word_elements if averaging else geometry.columns
        pixels = pool.output.height * pool.output.width
        fields = self.walk(source, words, pool.kernel, pool.stride, pool.padding, pool.output)
        fields |= {
            "op": op,
            "pad_code": source.tensor.zero_point if averaging else 0,
            "tiles": pixels,
            "gap": max(0, drain - steps),
            "target": target.memory,
            "out_base": target.base,
            "passes": 1,
            "low": pool.low,
            "high": pool.high,
            "zero": pool.output.zero_point,
        }
        self.emit_descriptor(**fields)
        if averaging:
            self.emit(record_bytes(0, 1, geometry))
            record = PARAM.pack(
                {
                    "bias": -source.tensor.zero_point * steps,
                    "mult": pool.mult,
                    "shift": pool.shift,
                    "valid": 1,
                }
            )
            self.emit(record_bytes(record, geometry.param_beats, geometry))
            self.emit(np.zeros((geometry.rows - 1) * geometry.param_beats * geometry.beat_bytes, dtype=np.uint8))
        return LayerPlan(
            name=pool.name,
            op=op,
            m=pool.output.channels,
            k=0,
            n=pixels,
            tiles=pixels * words,
            steps=steps,
            gap=fields["gap"],
            wide=False,
            passes=(PassPlan((), 0, 0),) if averaging else (),
            beats=0,
            weight_beats=0,
            macs=0,
        )


def _with_beats(plan: LayerPlan, beats: int) -> LayerPlan:
    from dataclasses import replace

    return replace(plan, beats=beats)
