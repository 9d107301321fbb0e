"""Energy of a program, estimated: operations counted from its schedule, times a table of energies of single operations.

What is counted, for every layer:

* products: rows that have a filter times elements of a row times `dot` times cycles, by band; those of padded channels
  and of the unused columns of a last tile are done, too, and count. Fixed products are multiplications, those of powers
  of two shifts. Requantization's multiplications are added.
* additions: one for each product, in an adder tree, an accumulator or, weight stationary, along the row, whose end has
  the accumulator.
* registers: in every cycle in which a row computes, code and sum of each of its elements, and the weight where it moves
  (output stationary); stationary weights are written once for every block and tap.
* buffers: reads and writes of activation memories and weight rings, each an SRAM of its own size.
* comparisons of max pooling, as additions and registers of codes; those of results as they leave are the convolution's.
* memory traffic, as `codesign.program.traffic` counts it.

What is not: leakage, clock tree, control, refresh, the host. It is an estimate that ranks designs by what they do, no
measurement, and the default table is that of an ASIC process, not of an FPGA.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated

from codesign.arch.band import Band
from codesign.arch.checks import number
from codesign.arch.documents import Model, parse, read_text
from codesign.arch.load import find_config
from codesign.arch.scheme import TWO_TERM_SCHEMES, Scheme
from codesign.integer.network import RESIDUAL_MULT_BITS
from codesign.program.plan import Plan, StepPlan, owners_of
from codesign.program.shapes import ConvShape, Pooled
from codesign.program.traffic import ending, traffic
from codesign.rtl.geometry import Geometry
from codesign.rtl.layout import Op

FOLDER = "energy"
"""Where below hw_configs/ the tables lie."""

DEFAULT = "horowitz2014"
"""The table that is used unless another is given."""

_PJ = number(-1e-12, 1e6)


class UnitEnergies(Model):
    """Energies of single operations in picojoules.

    Attributes:
        source: where the numbers are from; it is printed with every estimate.
        multiply_pj_per_bit2: of a multiplication, times the product of both widths.
        add_pj_per_bit: of an addition, times its width.
        shift_pj_per_bit_stage: of a shift, times the width of its result and the stages of the shifter.
        register_pj_per_bit: of a register bit that is written.
        sram_8kib_pj_per_bit: of a bit read from or written to an SRAM of 8 KiB; grows with the square root of the size.
        dram_pj_per_bit: of a bit read from or written to external memory.
    """

    source: str
    multiply_pj_per_bit2: Annotated[float, _PJ]
    add_pj_per_bit: Annotated[float, _PJ]
    shift_pj_per_bit_stage: Annotated[float, _PJ]
    register_pj_per_bit: Annotated[float, _PJ]
    sram_8kib_pj_per_bit: Annotated[float, _PJ]
    dram_pj_per_bit: Annotated[float, _PJ]

    def sram_pj_per_bit(self, size_bytes: float) -> float:
        """Of one bit of an SRAM of that size."""
        return self.sram_8kib_pj_per_bit * math.sqrt(size_bytes / 8192)


def unit_energies(path_or_name: str | Path = DEFAULT) -> UnitEnergies:
    """The table of a YAML file, or of the one called `path_or_name` in hw_configs/energy/.

    Raises:
        UserError: it is missing, or is no such table.
    """
    return parse(read_text(find_config(path_or_name, FOLDER)), str(path_or_name), UnitEnergies, {})


@dataclass(frozen=True)
class LayerEnergy:
    """Energy of one layer in picojoules by what takes it."""

    name: str
    products_pj: float = 0.0
    additions_pj: float = 0.0
    registers_pj: float = 0.0
    buffers_pj: float = 0.0
    dram_pj: float = 0.0

    @property
    def total_pj(self) -> float:
        """All of it."""
        return self.products_pj + self.additions_pj + self.registers_pj + self.buffers_pj + self.dram_pj

    @property
    def total_mj(self) -> float:
        """All of it, in millijoules."""
        return 1e-9 * self.total_pj


@dataclass(frozen=True)
class Energy:
    """An estimate for the images of a start.

    Attributes:
        layers: of the program, in order.
        ending_pj: of what is read after the last layer.
        source: of the unit energies.
    """

    layers: tuple[LayerEnergy, ...]
    ending_pj: float
    source: str

    @property
    def total_mj(self) -> float:
        """Millijoules of these images."""
        return 1e-9 * (self.ending_pj + sum(layer.total_pj for layer in self.layers))


def estimate_energy(program: Plan, units: UnitEnergies) -> Energy:
    """Energy of the images of a start by the module's counts; the cost is that of a walk over the passes."""
    counter = _Counter(program, units)
    pj = [dict.fromkeys((item.name for item in fields(LayerEnergy)[1:]), 0.0) for _ in program.layers]
    for plan, owner in zip(program.steps, owners_of(program.steps), strict=True):
        of_layer = pj[owner]
        if plan.op == Op.LOAD:
            of_layer["buffers_pj"] += counter.load(plan)
        if plan.op in (Op.LOAD, Op.FENCE):
            continue
        if plan.op == Op.STORE:
            of_layer["buffers_pj"] += counter.store(plan)
            continue
        convolves = isinstance(program.shape.layers[plan.layer], ConvShape)
        for key, value in (counter.conv(plan) if convolves else counter.pool(plan)).items():
            of_layer[key] += value
    for of_layer, moved in zip(pj, traffic(program), strict=True):
        of_layer["dram_pj"] = 8 * moved.total * units.dram_pj_per_bit
    layers = tuple(LayerEnergy(work.name, **of_layer) for work, of_layer in zip(program.layers, pj, strict=True))
    return Energy(layers, 8 * ending(program) * units.dram_pj_per_bit, units.source)


class _Counter:
    """Picojoules of single steps."""

    def __init__(self, program: Plan, units: UnitEnergies) -> None:
        self.units = units
        self.program = program
        hw = program.hw
        self.hw = hw
        self.geometry = Geometry(hw)
        self.activation_pj = units.sram_pj_per_bit(hw.buffers.activation_words * hw.dot * hw.act_bits / 8)

    def load(self, plan: StepPlan) -> float:
        return plan.load_words * self.geometry.word_bits * self.activation_pj

    def store(self, plan: StepPlan) -> float:
        return plan.store_words * self.geometry.word_bits * self.activation_pj

    def conv(self, plan: StepPlan) -> dict[str, float]:
        hw, units = self.hw, self.units
        products = additions = registers = buffers = 0.0
        layer = self.program.shape.layers[plan.layer]
        assert isinstance(layer, ConvShape)
        bits = self.geometry.map_bits(layer.weight[1] * layer.groups, layer.input_bits)
        narrow = self.geometry.is_narrow(bits)
        of_unit = self.unit(plan) if plan.op == Op.DEPTHWISE else {}
        for rows in () if of_unit else plan.passes:
            # a row's weights are read once a tile or block
            cycles = rows.tiling.issue
            fetches = rows.tiling.count * self.geometry.steps_in(rows.steps, bits)
            bands = Counter(band for band, row in zip(self.geometry.row_bands, rows.filters, strict=True) if row >= 0)
            for band, count in bands.items():
                word = hw.dot * band.weight_bits * (2 if narrow and band.crumbs else 1)
                products += cycles * count * hw.array_columns * hw.dot * self.product(band)
                additions += cycles * count * self.row_additions(band) * units.add_pj_per_bit
                moving = 0 if self.geometry.weight_stationary else cycles * hw.array_columns * word
                held = fetches * word if self.geometry.weight_stationary else 0
                written = cycles * self.row_registers(band) + moving + held
                registers += count * written * units.register_pj_per_bit
                buffers += fetches * count * word * self.ring(band)
            for band in self.geometry.row_bands:  # every row's ring is filled, those of idle rows with zeros
                buffers += rows.steps * hw.dot * band.weight_bits * self.ring(band)
            buffers += cycles * hw.array_columns * hw.dot * hw.act_bits * self.activation_pj
        outputs = written = self.outputs(plan)
        if plan.pooled is not None:  # of all results, of which a quarter is written
            outputs, compared = self.pooled(plan, plan.pooled)
            additions += compared * hw.act_bits * units.add_pj_per_bit
            registers += compared * hw.act_bits * units.register_pj_per_bit
        products += outputs * (hw.acc_bits + 1) * hw.multiplier_bits * units.multiply_pj_per_bit2
        operand = hw.code_bits(self.program.shape.tensor(layer.residual).bits) if layer.residual is not None else 0
        products += outputs * operand * RESIDUAL_MULT_BITS * units.multiply_pj_per_bit2
        stored = 0 if plan.wide else hw.code_bits(layer.output.bits)
        buffers += (written * stored + outputs * operand) * self.activation_pj
        found = {
            "products_pj": products,
            "additions_pj": additions,
            "registers_pj": registers,
            "buffers_pj": buffers,
        }
        return {name: pj + of_unit.get(name, 0.0) for name, pj in found.items()}

    def unit(self, plan: StepPlan) -> dict[str, float]:
        """Passes of the depthwise unit, which multiplies and adds every place of a word in every cycle."""
        hw, units, unit = self.hw, self.units, self.hw.depthwise
        assert unit is not None
        places = sum(rows.tiling.issue for rows in plan.passes) * hw.word_elements
        written = sum(rows.taps for rows in plan.passes) * hw.word_elements
        stored = 2 * unit.taps * hw.dot * unit.weight_bits / 8
        weights = (places + written) * unit.weight_bits * units.sram_pj_per_bit(stored)
        return {
            "products_pj": places * hw.act_bits * unit.weight_bits * units.multiply_pj_per_bit2,
            "additions_pj": places * hw.acc_bits * units.add_pj_per_bit,
            "registers_pj": places * (hw.acc_bits + hw.act_bits + unit.weight_bits) * units.register_pj_per_bit,
            "buffers_pj": places * hw.act_bits * self.activation_pj + weights,
        }

    def pool(self, plan: StepPlan) -> dict[str, float]:
        """A word is read and compared or added up in every cycle."""
        hw, units = self.hw, self.units
        words = sum(tiling.issue for tiling in plan.tilings)
        width = hw.act_bits if plan.op == Op.MAX_POOL else hw.acc_bits
        outputs = self.outputs(plan)
        bits = hw.code_bits(self.program.shape.layers[plan.layer].output.bits)
        found = {
            "additions_pj": words * hw.word_elements * width * units.add_pj_per_bit,
            "registers_pj": words * hw.word_elements * width * units.register_pj_per_bit,
            "buffers_pj": (words * hw.word_elements * hw.act_bits + outputs * bits) * self.activation_pj,
        }
        requantized = outputs * (hw.acc_bits + 1) * hw.multiplier_bits * units.multiply_pj_per_bit2
        if plan.op == Op.AVG_POOL:
            found["products_pj"] = requantized
        if plan.op == Op.DEPTHWISE:
            found = self.unit(plan)
            found["products_pj"] += requantized
            found["buffers_pj"] += outputs * bits * self.activation_pj
        return found

    def product(self, band: Band) -> float:
        """Of one product."""
        hw, units = self.hw, self.units
        if band.scheme is Scheme.FIXED:
            return hw.act_bits * band.weight_bits * units.multiply_pj_per_bit2
        width = hw.act_bits + band.product_magnitude_bits
        second = width * units.add_pj_per_bit if band.scheme in TWO_TERM_SCHEMES else 0.0  # the sum of two shifts
        return width * (band.weight_bits - 1) * units.shift_pj_per_bit_stage + second

    def row_additions(self, band: Band) -> int:
        """Bits added in a row in a cycle: sums of `dot` products in every element, and what they are added to."""
        hw = self.hw
        width = hw.act_bits + band.product_magnitude_bits + 1 + (hw.dot - 1).bit_length()
        trees = hw.array_columns * (hw.dot - 1) * width
        if self.geometry.weight_stationary:
            return trees + hw.array_columns * self.geometry.partial_bits(band) + hw.acc_bits
        return trees + hw.array_columns * hw.acc_bits

    def row_registers(self, band: Band) -> int:
        """Bits that a row writes in a cycle, without those of weights."""
        hw = self.hw
        codes = hw.array_columns * hw.dot * hw.act_bits
        if self.geometry.weight_stationary:
            return codes + hw.array_columns * self.geometry.partial_bits(band) + hw.acc_bits
        return codes + hw.array_columns * hw.acc_bits

    def ring(self, band: Band) -> float:
        """Of one bit of a weight ring."""
        return self.units.sram_pj_per_bit(self.hw.buffers.weight_words * self.hw.dot * band.weight_bits / 8)

    def outputs(self, plan: StepPlan) -> int:
        """Codes or results that a step with a layer writes."""
        layer = self.program.shape.layers[plan.layer]
        width = layer.output.width if plan.pooled is None else layer.output.width // 2
        return plan.together * layer.output.channels * width * (plan.rows[1] - plan.rows[0])

    def pooled(self, plan: StepPlan, pooled: Pooled) -> tuple[int, int]:
        """Results of a step that writes maxima of them, and how often two codes are compared.

        In a row those of a window are, and then the maxima of its rows.
        """
        written = self.outputs(plan)
        of_row = written // (plan.rows[1] - plan.rows[0])
        rows = 2 * (plan.rows[1] - plan.rows[0]) + pooled.halo
        return 2 * of_row * rows, (pooled.kernel - 1) * (of_row * rows + written)
