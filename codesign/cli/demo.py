"""`codesign demo`: the whole way once, from images to a report, with everything real."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

HARDWARE, SPACE = "xc7z020_rmsmp", "digits"


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for what the demo makes.")],
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the answer as JSON.")] = None,
) -> None:
    """Train and quantize a small CNN, generate its accelerator, run it bit for bit, search, report."""
    from codesign._files import write_text
    from codesign.arch.load import load_hardware
    from codesign.cli.model import chosen_facts, print_points
    from codesign.cli.output import facts, line, percent, progress, save, shown, table
    from codesign.data.sources import load_dataset
    from codesign.execution.folder import claim
    from codesign.integer.storage import save_network
    from codesign.program import compile_network
    from codesign.provenance import provenance
    from codesign.rtl.export import export
    from codesign.search.loop import Search, verification
    from codesign.search.space import band_ratio, load_space, zoo_network
    from codesign.sim.clock import synthesized_clock
    from codesign.sim.cosim.run import run_network
    from codesign.sim.functional import quantize_input
    from codesign.sim.synthesis.resources import synthesize_hardware

    began = time.perf_counter()
    hw, space = load_hardware(HARDWARE), load_space(SPACE)
    source, data = zoo_network(space.network), load_dataset(space.data, seed=space.seed)
    claim(out, "demo.yaml", f"hardware: {HARDWARE}\nspace: {SPACE}\n", "demo")
    with progress() as report:
        from codesign.quant.options import FloatOptions, FormatOptions, QuantizeOptions, RunOptions, TrainingOptions
        from codesign.quant.pipeline import quantize

        options = QuantizeOptions(
            FormatOptions("rmsmp", band_ratio(hw), hw.act_bits),
            FloatOptions(space.float_epochs),
            training=TrainingOptions(space.epochs),
        )
        quantized = quantize(source, data, options, test=True, run=RunOptions(space.seed, report))
        tested = quantized.test
        assert tested is not None
        network = quantized.integer_network
        save_network(network, out / "network.codesign")
        export(hw, out / "accelerator")
        compile_network(network, hw)
        result = run_network(hw, network, quantize_input(network.input, data.test_images), report)
        rtl = verification(result, data, len(data.test_images))
        synthesis = synthesize_hardware(hw, progress=report)
    resources, clock = synthesis.total, synthesized_clock(hw, synthesis.fmax_estimate_mhz)
    totals = hw.totals
    answer: dict[str, Any] = {
        "hardware": hw.name,
        "network": network.name,
        **quantized.validation.facts("validation"),
        **tested.facts("test"),
        **rtl,
        **clock.to_json(),
        "latency_ms": clock.milliseconds(result.rtl_cycles),
        "resources": resources._asdict(),
    }
    line(f"\n{data}\n{hw}\n")
    summary = {
        "test accuracy, float": percent(tested.float_accuracy, 2),
        "test accuracy, quantized (RMSMP)": percent(tested.quantized_accuracy, 2),
        f"test accuracy, RTL on {result.images} images": percent(rtl["rtl_accuracy"], 2),
        "values that differ from the model": f"{result.mismatched_values} of {result.compared_values:,}",
        "cycles of an image, model / RTL": f"{result.model_cycles:,} / {result.rtl_cycles:,}",
        "clock as configured": f"{clock.configured_mhz:g} MHz",
        f"clock {clock.says}": f"{shown(clock.evidenced_mhz)} MHz",
        f"latency at {clock.mhz:.4g} MHz": f"{answer['latency_ms']:.4f} ms",
        **{
            f"{key.upper()} of {totals.name}": f"{shown(used)} ({percent(used / getattr(totals, key))})"
            for key, used in resources._asdict().items()
        },
        "simulation": f"{shown(result.sim_cycles_per_s)} cycles/s",
    }
    table(f"{network.name} on {hw.name}", ("what", "measured"), list(summary.items()))
    if not result.exact:
        line("the RTL differs from the models", "bold red")
        save(json, answer | provenance(hw, space.seed))
        raise typer.Exit(1)
    with progress() as report:
        found = Search(space, out / "search", report=report).run()
        from codesign.report.page import render

        write_text(
            out / "report.html",
            render(found, {"accelerator of the paper": hw.name} | summary, "A small CNN and its accelerator"),
        )
    print_points(found)
    answer["search"] = found.to_json()
    answer["seconds"] = time.perf_counter() - began
    facts(
        {
            **chosen_facts(found),
            "on RTL": f"{found.rtl['images']} test images, {found.rtl['mismatched_values']} of "
            f"{found.rtl['compared_values']:,} values differ, {found.rtl['rtl_cycles']:,} cycles",
            "accelerator": out / "accelerator",
            "report": out / "report.html",
            "took": f"{answer['seconds']:.0f} s",
        }
    )
    save(json, answer | provenance(hw, space.seed))
