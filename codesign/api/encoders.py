"""Transformer encoders: their matrix products on an accelerator, and the host's operators beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from codesign.api.answer import Answer
from codesign.api.blocks import Block, Facts, Table, percent, shown
from codesign.api.networks import Formats, HardwareLike, encoder, hardware_of, row_ratio
from codesign.api.notes import Report, silent
from codesign.arch.hardware import Hardware
from codesign.errors import UserError, option
from codesign.formats.ratio import Ratio
from codesign.provenance import provenance
from codesign.sim.clock import Clock, known_clock
from codesign.sim.cosim.encoder import EncoderCosim, run_encoder
from codesign.sim.timing.encoder import ProductTiming, encoder_timing
from codesign.workload.encoder import ENCODERS, Encoder


@dataclass(frozen=True, eq=False, repr=False)
class EncoderSimulation(Answer):
    """Cycles of an encoder's matrix products; its host's operators, and the host's work between them, not counted.

    Attributes:
        hardware: the accelerator.
        encoder: the network.
        products: timing of each, of one sequence.
        clock: that of the latency.
        batch: sequences, one after the other.
        seed: of random weights.
    """

    hardware: Hardware
    encoder: Encoder
    products: tuple[ProductTiming, ...]
    clock: Clock
    batch: int
    seed: int

    @property
    def total_cycles(self) -> int:
        """Of all sequences."""
        return self.batch * sum(item.total_cycles for item in self.products)

    @property
    def macs(self) -> int:
        """Multiply-accumulates on the accelerator, of all sequences."""
        return self.batch * sum(item.product.macs for item in self.products if item.cycles is not None)

    @property
    def latency_ms(self) -> float:
        """Of the products of all sequences."""
        return self.clock.milliseconds(self.total_cycles)

    @property
    def summary(self) -> str:
        return f"{self.encoder.name} on {self.hardware.name}, products take {shown(self.latency_ms)} ms"

    def to_json(self) -> dict[str, Any]:
        answer: dict[str, Any] = {
            "hardware": self.hardware.name,
            "network": self.encoder.name,
            **self.clock.to_json(),
            "batch": self.batch,
            "sequence": self.encoder.sequence,
            "total_cycles": self.total_cycles,
            "latency_ms": self.latency_ms,
            "gops": 2 * self.macs / (self.latency_ms * 1e6),
            "products": [
                {
                    "name": item.product.name,
                    "m": item.product.m,
                    "k": item.product.k,
                    "n": item.product.n,
                    "count": item.product.count,
                    "streamed": item.product.streamed,
                    "positions": item.positions,
                    "blocks": item.blocks,
                    "cycles": item.cycles,
                    "total_cycles": item.total_cycles,
                }
                for item in self.products
            ],
            "host": [{"name": item.name, "count": item.count, "numbers": item.numbers} for item in self.encoder.host],
        }
        return answer | provenance(self.hardware, self.seed)

    def blocks(self) -> Sequence[Block]:
        encoder, hw, cycles = self.encoder, self.hardware, self.total_cycles
        several = f" for {self.batch} sequences" if self.batch > 1 else ""
        return [
            Table(
                f"{encoder.name}, {encoder.sequence} positions, on {hw.name}: matrix products",
                ("product", "m", "k", "n", "times", "weights", "positions", "cycles each", "cycles", "used"),
                [self._row(item) for item in self.products],
                ("all", "", "", "", "", "", "", "", cycles, percent(self.macs / (cycles * hw.macs))),
            ),
            Table(
                "on the host, in integers",
                ("operator", "times", "numbers each"),
                [(item.name, item.count, item.numbers) for item in encoder.host],
            ),
            Facts(
                {
                    "hardware": hw,
                    "clock": self.clock,
                    "products": f"{shown(self.latency_ms)} ms at {self.clock.mhz:.4g} MHz{several}",
                    "not counted": "the host's operators, and its work between the products",
                }
            ),
        ]

    def _row(self, item: ProductTiming) -> tuple[object, ...]:
        product, cycles = item.product, item.cycles
        weights = "a computed map" if product.streamed else "constant"
        start = (product.name, product.m, product.k, product.n, product.count, weights)
        if cycles is None:
            return (*start, None, None, "on the host", None)
        used = percent(product.macs / (item.total_cycles * self.hardware.macs))
        return (*start, item.positions, cycles * item.blocks, item.total_cycles, used)


@dataclass(frozen=True, eq=False, repr=False)
class EncoderCosimulation(Answer):
    """An encoder's matrix products on the RTL, beside the models.

    Attributes:
        hardware: the accelerator.
        encoder: the network.
        sequences: how many ran.
        result: what was compared.
        seed: of random weights and inputs.
    """

    hardware: Hardware
    encoder: Encoder
    sequences: int
    result: EncoderCosim
    seed: int

    @property
    def exact(self) -> bool:
        """Whether not one value or cycle differs."""
        return self.result.exact

    @property
    def summary(self) -> str:
        return f"{self.encoder.name} on {self.hardware.name}, {'exact' if self.exact else 'not exact'}"

    def to_json(self) -> dict[str, Any]:
        answer: dict[str, Any] = {
            "hardware": self.hardware.name,
            "network": self.encoder.name,
            "sequence": self.encoder.sequence,
            "sequences": self.sequences,
            "products": [dict(vars(item)) for item in self.result.products],
            "compared_outputs": self.result.outputs.size,
            "mismatched_outputs": self.result.mismatched_outputs,
            "exact": self.result.exact,
        }
        return answer | provenance(self.hardware, self.seed)

    def blocks(self) -> Sequence[Block]:
        encoder, result = self.encoder, self.result
        return [
            Table(
                f"{encoder.name}, {encoder.sequence} positions, on {self.hardware.name}: matrix products in RTL "
                "against the models",
                ("product", "values", "different", "cycles in RTL", "in model"),
                [
                    (x.name, x.compared_values, x.mismatched_values, x.rtl_cycles, x.model_cycles)
                    for x in result.products
                ],
                (
                    "all",
                    sum(x.compared_values for x in result.products),
                    sum(x.mismatched_values for x in result.products),
                    sum(x.rtl_cycles for x in result.products),
                    sum(x.model_cycles for x in result.products),
                ),
            ),
            Facts(
                {
                    "on the host": "softmax, GELU, residual sums, layer norm, in integers",
                    "results": f"{result.outputs.size:,} codes, {result.mismatched_outputs:,} differ",
                    "equal": result.exact,
                }
            ),
        ]


def simulate_encoder(
    hw: HardwareLike,
    network: Encoder | str,
    *,
    bits: str | None = None,
    ratio: str | Ratio | None = None,
    batch: int = 1,
    seed: int = 0,
    progress: Report | None = None,
) -> EncoderSimulation:
    """Cycles of the matrix products of an encoder, `batch` sequences one after the other.

    Args:
        hw: an accelerator, a YAML file, or a name in hw_configs.
        network: an encoder, or its name, such as `bert_tiny` or `bert_base:sequence=64`.
        bits, ratio: row formats; by default those of the accelerator's bands.
        batch: sequences.
        seed: of random weights.
        progress: told when the products are timed.

    Raises:
        UserError: no such encoder, or a product that does not run on the accelerator.
    """
    hardware, found, report = hardware_of(hw), _encoder(network), progress or silent
    formats, act_bits = row_ratio(hardware, Formats(bits, ratio))
    if act_bits != hardware.act_bits:
        raise UserError(
            f"{option('bits')}: activations of {act_bits} bits given, must be the hardware's {hardware.act_bits}"
        )
    report("products", 0, 1)
    timings = encoder_timing(found, hardware, formats, seed)
    report("products", 1, 1)
    return EncoderSimulation(hardware, found, timings, known_clock(hardware), batch, seed)


def cosim_encoder(
    hw: HardwareLike, network: Encoder | str, *, sequences: int = 1, seed: int = 0, progress: Report | None = None
) -> EncoderCosimulation:
    """Run every matrix product of an encoder on the RTL, with random weights and inputs, the host's operators beside.

    Raises:
        UserError: no such encoder, or a product that does not run on the accelerator.
        RuntimeError: Verilator or the simulation failed.
    """
    hardware, found = hardware_of(hw), _encoder(network)
    result = run_encoder(hardware, found, sequences, seed, progress)
    return EncoderCosimulation(hardware, found, sequences, result, seed)


def _encoder(network: Encoder | str) -> Encoder:
    found = encoder(network)
    if found is None:
        raise UserError(f"{network}: no such encoder, must be {' or '.join(ENCODERS)}")
    return found
