"""A network on the generated RTL in Verilator, every value and cycle compared with the models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from codesign.api.answer import Answer
from codesign.api.blocks import Block, Facts, Table, shown
from codesign.api.given import check_batch, check_data_dir, refuse
from codesign.api.networks import Formats, HardwareLike, encoder, hardware_of, input_codes, integer_network, weight_bits
from codesign.api.notes import Report, note
from codesign.api.reading import NOTHING, Reading
from codesign.api.simulation import moved_words, timing_json
from codesign.arch.hardware import Hardware
from codesign.errors import UserError, option
from codesign.integer.network import IntegerNetwork
from codesign.program import Plan, plan_network
from codesign.provenance import provenance
from codesign.sim.clock import Clock, known_clock
from codesign.sim.cosim.run import CosimResult, Elements, run_network
from codesign.sim.cosim.wave_request import request
from codesign.sim.energy import unit_energies
from codesign.sim.signals import measure
from codesign.sim.timing.plan_timing import Timing, estimate, fastest

if TYPE_CHECKING:
    from codesign.api.networks import NetworkLike
    from codesign.data.dataset import Dataset, Images
    from codesign.formats.assignment import Assignment
    from codesign.formats.ratio import Ratio


LONG_RUN = 1_000_000
"""Cycles of all images beyond which twins of processing elements run unless something else is asked for."""


@dataclass(frozen=True, eq=False, repr=False)
class Cosimulation(Answer):
    """What the RTL did with some images, beside what the models say.

    Attributes:
        integers: the network that ran.
        plan: of its program.
        result: cycles, values and counters that were compared, and the outputs.
        alone: plan and timing of one image.
        clock: that of the latency.
        seed: of random weights and images.
    """

    integers: IntegerNetwork
    plan: Plan
    result: CosimResult
    alone: tuple[Plan, Timing]
    clock: Clock
    seed: int

    @property
    def hardware(self) -> Hardware:
        """The accelerator."""
        return self.plan.hw

    @property
    def exact(self) -> bool:
        """Whether not one value, cycle or counter differs."""
        return self.result.exact

    @property
    def total_cycles(self) -> int:
        """Of one start, with all its images."""
        return self.result.rtl_cycles

    @property
    def latency_ms(self) -> float:
        """Of one start, with all its images."""
        return self.clock.milliseconds(self.result.timing.total_cycles)

    @property
    def summary(self) -> str:
        different, compared = self.result.mismatched_values, self.result.compared_values
        return (
            f"{self.integers.name} on {self.hardware.name}, {different:,} of {compared:,} values differ, "
            f"{self.result.rtl_cycles:,} cycles, {'exact' if self.exact else 'not exact'}"
        )

    def to_json(self) -> dict[str, Any]:
        result = self.result
        units = unit_energies()
        plan, timing = self.alone
        signals = replace(measure(plan, units, timing), clock=self.clock)
        answer = timing_json(self.plan, result.timing, units, signals, weight_bits(self.integers))
        answer |= provenance(self.hardware, self.seed)
        return answer | {
            "images": result.images,
            "rtl_cycles": result.rtl_cycles,
            "model_cycles": result.model_cycles,
            "mismatched_values": result.mismatched_values,
            "compared_values": result.compared_values,
            "counter_differences": [list(difference) for difference in result.counter_differences],
            "exact": result.exact,
            "sim_cycles_per_s": result.sim_cycles_per_s,
            "build_s": result.build_s,
            "wall_s": result.wall_s,
            "twins": list(result.twins),
            "waves": self._waves_json(),
        }

    @property
    def _elements(self) -> str:
        """Which processing elements ran."""
        if not (twins := self.result.twins):
            return "as generated"
        return f"behavioural twins of {', '.join(twins)}; {option('elements')} rtl runs what is generated"

    def _waves_json(self) -> dict[str, Any] | None:
        """Where the waves are, and which cycles of the run; None where there are none."""
        if (found := self.result.recording) is None:
            return None
        return {
            "file": str(found.file),
            "layout": str(found.layout),
            "layout_kept": found.layout_kept,
            "layer": found.window.layer,
            "first_cycle": found.window.first,
            "end_cycle": found.window.end,
        }

    def blocks(self) -> Sequence[Block]:
        result, several = self.result, self.plan.images
        what = f"{several} images" if several > 1 else "an image"
        facts = {
            "clock": self.clock,
            "latency": f"{shown(self.latency_ms)} ms of {what} at {self.clock.mhz:.4g} MHz",
            "images": result.images,
            "simulation": f"{shown(result.sim_cycles_per_s)} cycles/s, {result.wall_s:.1f} s"
            f" (build {result.build_s:.1f} s)",
            "elements": self._elements,
            "bytes": moved_words(self.plan),
            "equal": result.exact,
        }
        if found := result.recording:
            kept = ", changed by somebody, left as it is" if found.layout_kept else ""
            facts |= {"waves": f"{found.file}, {found.window}", "layout": f"{found.layout}, for GTKWave{kept}"}
        return [
            Table(
                f"{self.integers.name} on {self.hardware.name}: RTL against the models",
                ("layer", "values", "different", "end in RTL", "end in model"),
                [(x.name, x.compared_values, x.mismatched_values, x.rtl_end, x.model_end) for x in result.layers],
                ("all", result.compared_values, result.mismatched_values, result.rtl_cycles, result.model_cycles),
            ),
            *(
                Facts({f"counter {name}": f"{rtl:,} in RTL, {model:,} in the model"})
                for name, rtl, model in result.counter_differences
            ),
            Facts(facts),
        ]


def cosim(
    hw: HardwareLike,
    network: NetworkLike,
    *,
    images: int | Images | None = None,
    batch: int = 1,
    data: str | Dataset | None = None,
    data_dir: Path | None = None,
    bits: str | None = None,
    ratio: str | Ratio | None = None,
    assignment: Assignment | str | Path | None = None,
    act_bits: int | None = None,
    seed: int = 0,
    waves: str | None = None,
    waves_out: str | Path | None = None,
    elements: Elements | None = None,
    reading: Reading = NOTHING,
    progress: Report | None = None,
) -> Cosimulation:
    """Run a network on the generated RTL and compare every value, cycle and counter with the models.

    Args:
        hw: an accelerator, a YAML file, or a name in hw_configs.
        network: whatever `load_network` takes; one without integers gets random weights.
        images: how many, by default those of one start; or the images, (N, C, H, W) real numbers in what the network
            was trained on.
        batch: images that are computed from one start (`codesign.program.images`).
        data: a data set whose first test images are run; random ones by default.
        data_dir: folder with the files of a data set that is named.
        bits, ratio, assignment: row formats of a network without integers; at most one.
        act_bits: of all its activations, see `codesign.api.networks.Formats`.
        seed: of random weights and images.
        waves: whose waves are written, of the first image's run: the name of a layer, or cycles `FIRST:END`.
        waves_out: where to, a `.vcd` or `.fst` file with a GTKWave layout (`.gtkw`) beside it; a new `waves.vcd` in the
            current folder by default.
        elements: "rtl", the processing elements as they are generated, or "twins", behavioural models in their places,
            some three times faster; by default twins where all images take more than `LONG_RUN` cycles, and no waves
            are asked for.
        reading: how a file of another tool is read.
        progress: told how build and simulation go on.

    Raises:
        UserError: an input cannot be used, the network does not run on the accelerator, or has no such waves.
        RuntimeError: Verilator or the simulation failed.
    """
    hardware = hardware_of(hw)
    if (found := encoder(network)) is not None:
        raise UserError(f"{found.name}: has many products and no single program; cosim_encoder runs them")
    check_data_dir(data, data_dir)
    check_batch(batch)
    if waves is None:
        refuse({"waves_out": waves_out}, f"without {option('waves')}")
    if elements is not None and elements not in get_args(Elements):
        raise UserError(f"{option('elements')}: {elements} given, must be {' or '.join(get_args(Elements))}")
    recording = None if waves is None else request(waves, waves_out)
    if recording and elements == "twins":
        raise UserError(f"{option('elements')}: twins given, {option('waves')} shows the elements that are generated")
    net = integer_network(network, hardware, Formats(bits, ratio, assignment, act_bits), seed, reading)
    codes = input_codes(net, batch if images is None else images, data, data_dir, seed)
    if len(codes) % batch:
        raise UserError(f"{option('images')}: {len(codes)} given, must be a multiple of {option('batch')} {batch}")
    plan = plan_network(net, hardware, batch, fastest)
    timing = estimate(plan)
    if elements is None:
        long = timing.total_cycles * (len(codes) // batch) > LONG_RUN
        elements = "twins" if long and recording is None else "rtl"
    result = run_network(hardware, net, codes, progress, recording=recording, elements=elements, batch=batch)
    if recording and result.recording is None:
        note(f"{recording.file}: not written, the run was over before its first cycle")
    alone = plan, timing
    if batch > 1:
        single = plan_network(net, hardware)
        alone = single, estimate(single)
    return Cosimulation(net, plan, result, alone, known_clock(hardware), seed)
