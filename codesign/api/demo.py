"""The whole way once, from images to a report, with everything real."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codesign._files import write_text
from codesign.api.answer import Answer
from codesign.api.blocks import Block, Facts, Line, Table, percent, shown
from codesign.api.board import generate
from codesign.api.cosimulation import Cosimulation, cosim
from codesign.api.notes import Report
from codesign.api.quantization import Quantization, quantize
from codesign.api.searching import Searched, chosen_facts, point_tables, search
from codesign.api.synthesis import Synthesis, synthesize
from codesign.arch.hardware import Hardware
from codesign.arch.load import load_hardware
from codesign.data.sources import load_dataset
from codesign.execution.folder import claim
from codesign.program import compile_network
from codesign.provenance import provenance
from codesign.report.page import render
from codesign.search.loop import verification
from codesign.search.space import load_space

HARDWARE, SPACE = "xc7z020_rmsmp", "digits"


@dataclass(frozen=True, eq=False, repr=False)
class Measured(Answer):
    """A network quantized for an accelerator, all test images on its RTL, and what the accelerator needs.

    Attributes:
        quantization: of the network.
        cosimulation: of all test images.
        synthesis: of the accelerator.
    """

    quantization: Quantization
    cosimulation: Cosimulation
    synthesis: Synthesis

    @property
    def hardware(self) -> Hardware:
        """The accelerator."""
        return self.cosimulation.hardware

    @property
    def exact(self) -> bool:
        """Whether the RTL equals the models."""
        return self.cosimulation.exact

    @property
    def summary(self) -> str:
        return self.cosimulation.summary

    @property
    def rtl(self) -> dict[str, Any]:
        """What the RTL did."""
        result = self.cosimulation.result
        return verification(result, self.quantization.dataset, result.images)

    @property
    def facts(self) -> dict[str, str]:
        """What was measured, for people."""
        tested, result, clock = self.quantization.test, self.cosimulation.result, self.synthesis.clock
        assert tested is not None
        totals = self.hardware.totals
        return {
            "test accuracy, float": percent(tested.float_accuracy, 2),
            "test accuracy, quantized (RMSMP)": percent(tested.quantized_accuracy, 2),
            f"test accuracy, RTL on {result.images} images": percent(self.rtl["rtl_accuracy"], 2),
            "values that differ from the model": f"{result.mismatched_values} of {result.compared_values:,}",
            "cycles of an image, model / RTL": f"{result.model_cycles:,} / {result.rtl_cycles:,}",
            "clock as configured": f"{clock.configured_mhz:g} MHz",
            f"clock {clock.says}": f"{shown(clock.evidenced_mhz)} MHz",
            f"latency at {clock.mhz:.4g} MHz": f"{clock.milliseconds(result.rtl_cycles):.4f} ms",
            **{
                f"{key.upper()} of {totals.name}": f"{shown(used)} ({percent(used / getattr(totals, key))})"
                for key, used in self.synthesis.total._asdict().items()
            },
            "simulation": f"{shown(result.sim_cycles_per_s)} cycles/s",
        }

    def about(self) -> dict[str, Any]:
        """For machines, without versions."""
        tested, clock = self.quantization.test, self.synthesis.clock
        assert tested is not None
        return {
            "hardware": self.hardware.name,
            "network": self.quantization.name,
            **self.quantization.validation.facts("validation"),
            **tested.facts("test"),
            **self.rtl,
            **clock.to_json(),
            "latency_ms": clock.milliseconds(self.cosimulation.result.rtl_cycles),
            "resources": self.synthesis.total._asdict(),
        }

    def to_json(self) -> dict[str, Any]:
        return self.about() | provenance(self.hardware, self.quantization.seed)

    def blocks(self) -> Sequence[Block]:
        title = f"{self.quantization.name} on {self.hardware.name}"
        return [
            Line(f"\n{self.quantization.dataset}\n{self.hardware}\n"),
            Table(title, ("what", "measured"), list(self.facts.items())),
            *([] if self.exact else [Line("the RTL differs from the models", "bold red")]),
        ]


@dataclass(frozen=True, eq=False, repr=False)
class Demonstration(Answer):
    """The same, and a search of other accelerators for the same network.

    Attributes:
        measured: of the accelerator to begin with.
        searched: the others.
        folder: of everything.
        seconds: that it took.
    """

    measured: Measured
    searched: Searched
    folder: Path
    seconds: float

    @property
    def summary(self) -> str:
        return self.searched.summary

    def to_json(self) -> dict[str, Any]:
        answer = self.measured.about() | {"search": self.searched.to_json(), "seconds": self.seconds}
        return answer | provenance(self.measured.hardware, self.measured.quantization.seed)

    def blocks(self) -> Sequence[Block]:
        found = self.searched.result
        facts = {
            **chosen_facts(found),
            "on RTL": f"{found.rtl['images']} test images, {found.rtl['mismatched_values']} of "
            f"{found.rtl['compared_values']:,} values differ, {found.rtl['rtl_cycles']:,} cycles",
            "accelerator": self.folder / "accelerator",
            "report": self.folder / "report.html",
            "took": f"{self.seconds:.0f} s",
        }
        return [*point_tables(found), Facts(facts)]


def measure(folder: Path, progress: Report | None = None) -> Measured:
    """Train and quantize a small CNN, generate its accelerator in `folder`, run all test images, synthesize.

    Raises:
        UserError: the folder holds something else.
        RuntimeError: a tool failed.
    """
    hw, space = load_hardware(HARDWARE), load_space(SPACE)
    data = load_dataset(space.data, seed=space.seed)
    claim(folder, "demo.yaml", f"hardware: {HARDWARE}\nspace: {SPACE}\n", "demo")
    quantization = quantize(
        space.network,
        data,
        hardware=hw,
        out=folder / "network.codesign",
        epochs=space.epochs,
        float_epochs=space.float_epochs,
        seed=space.seed,
        progress=progress,
    )
    generate(hw, folder / "accelerator")
    compile_network(quantization.integer_network, hw)
    cosimulation = cosim(
        hw, quantization, images=len(data.test_images), data=data, seed=space.seed, elements="rtl", progress=progress
    )
    return Measured(quantization, cosimulation, synthesize(hw, progress=progress))


def search_others(measured: Measured, folder: Path, progress: Report | None = None) -> Searched:
    """Search other accelerators for the same network, and write the report to `folder`."""
    searched = search(load_space(SPACE), folder / "search", progress=progress)
    facts = {"accelerator of the paper": measured.hardware.name} | measured.facts
    write_text(folder / "report.html", render(searched.result, facts, "A small CNN and its accelerator"))
    return searched
