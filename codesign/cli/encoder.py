"""`codesign simulate HW bert_base`: the products of an encoder on an accelerator, its host operators beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from codesign.arch.hardware import Hardware
from codesign.formats.ratio import Ratio
from codesign.workload.encoder import Encoder


def simulate_encoder(hw: Hardware, encoder: Encoder, formats: Ratio, batch: int, seed: int, json: Path | None) -> None:
    """Print and save cycles of the matrix products; `batch` sequences one after the other."""
    from codesign.cli.output import facts, percent, progress, save, shown, table
    from codesign.provenance import provenance
    from codesign.sim.clock import known_clock
    from codesign.sim.timing.encoder import encoder_timing

    with progress() as report:
        report("products", 0, 1)
        timings = encoder_timing(encoder, hw, formats, seed)
        report("products", 1, 1)
    cycles = batch * sum(item.total_cycles for item in timings)
    macs = batch * sum(item.product.macs for item in timings if item.cycles is not None)
    table(
        f"{encoder.name}, {encoder.sequence} positions, on {hw.name}: matrix products",
        ("product", "m", "k", "n", "times", "weights", "positions", "cycles each", "cycles", "used"),
        [
            (
                item.product.name,
                item.product.m,
                item.product.k,
                item.product.n,
                item.product.count,
                "a computed map" if item.product.streamed else "constant",
                item.positions if item.cycles is not None else None,
                item.cycles * item.blocks if item.cycles is not None else None,
                item.total_cycles if item.cycles is not None else "on the host",
                percent(item.product.macs / (item.total_cycles * hw.macs)) if item.cycles is not None else None,
            )
            for item in timings
        ],
        ("all", "", "", "", "", "", "", "", cycles, percent(macs / (cycles * hw.macs))),
    )
    table(
        "on the host, in integers",
        ("operator", "times", "numbers each"),
        [(item.name, item.count, item.numbers) for item in encoder.host],
    )
    clock = known_clock(hw)
    latency = clock.milliseconds(cycles)
    several = f" for {batch} sequences" if batch > 1 else ""
    facts(
        {
            "hardware": hw,
            "clock": clock,
            "products": f"{shown(latency)} ms at {clock.mhz:.4g} MHz{several}",
            "not counted": "the host's operators, and its work between the products",
        }
    )
    answer: dict[str, Any] = {
        "hardware": hw.name,
        "network": encoder.name,
        **clock.to_json(),
        "batch": batch,
        "sequence": encoder.sequence,
        "total_cycles": cycles,
        "latency_ms": latency,
        "gops": 2 * macs / (latency * 1e6),
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
            for item in timings
        ],
        "host": [{"name": item.name, "count": item.count, "numbers": item.numbers} for item in encoder.host],
    }
    save(json, answer | provenance(hw, seed))


def cosim_encoder(hw: Hardware, encoder: Encoder, sequences: int, seed: int, json: Path | None) -> None:
    """Run the products of `encoder` on the RTL, print and save what differs; exit status 1 if anything does."""
    import typer

    from codesign.cli.output import facts, progress, save, table
    from codesign.provenance import provenance
    from codesign.sim.cosim.encoder import run_encoder

    with progress() as report:
        result = run_encoder(hw, encoder, sequences, seed, report)
    table(
        f"{encoder.name}, {encoder.sequence} positions, on {hw.name}: matrix products in RTL against the models",
        ("product", "values", "different", "cycles in RTL", "in model"),
        [(x.name, x.compared_values, x.mismatched_values, x.rtl_cycles, x.model_cycles) for x in result.products],
        (
            "all",
            sum(x.compared_values for x in result.products),
            sum(x.mismatched_values for x in result.products),
            sum(x.rtl_cycles for x in result.products),
            sum(x.model_cycles for x in result.products),
        ),
    )
    facts(
        {
            "on the host": "softmax, GELU, residual sums, layer norm, in integers",
            "results": f"{result.outputs.size:,} codes, {result.mismatched_outputs:,} differ",
            "equal": result.exact,
        }
    )
    answer: dict[str, Any] = {
        "hardware": hw.name,
        "network": encoder.name,
        "sequence": encoder.sequence,
        "sequences": sequences,
        "products": [vars(item) for item in result.products],
        "compared_outputs": result.outputs.size,
        "mismatched_outputs": result.mismatched_outputs,
        "exact": result.exact,
    }
    save(json, answer | provenance(hw, seed))
    if not result.exact:
        raise typer.Exit(1)
