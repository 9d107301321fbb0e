"""How much of an FPGA an accelerator fills, by Yosys, and the clock it reaches, by nextpnr."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from codesign.api.answer import Answer
from codesign.api.blocks import Block, Facts, Table
from codesign.api.given import refuse
from codesign.api.networks import HardwareLike, hardware_of
from codesign.api.notes import Report
from codesign.api.simulation import resource_table
from codesign.arch.devices import Device
from codesign.arch.hardware import Hardware
from codesign.errors import UserError, option
from codesign.provenance import provenance
from codesign.sim.clock import Clock, estimated_clock, synthesized_clock
from codesign.sim.synthesis.place_route import TIME_LIMIT_S, Routed, check_device, place_and_route
from codesign.sim.synthesis.resources import FAMILY, Flow, Resources, synthesize_hardware
from codesign.sim.synthesis.resources import Synthesis as Synthesized
from codesign.sim.synthesis.slow_path import advice, stretches


@dataclass(frozen=True, eq=False, repr=False)
class Synthesis(Answer):
    """Resources and clock of an accelerator.

    Attributes:
        hardware: the accelerator.
        result: of synthesis, module by module.
        routed: of place and route, if that was asked for.
    """

    hardware: Hardware
    result: Synthesized
    routed: Routed | None = None

    @property
    def device(self) -> Device | None:
        """What is on the accelerator's device; None if synthesis was for another family."""
        return self.hardware.totals if self.hardware.totals.family == self.result.family else None

    @property
    def total(self) -> Resources:
        """LUT, FF, DSP and block RAM of the whole."""
        return self.result.total

    @property
    def clock(self) -> Clock:
        """By the best evidence there is."""
        if self.routed is not None:
            return Clock(self.hardware.clock_mhz, "routed", self.routed.fmax_mhz)
        if self.device is None:  # of another family: nothing that was routed for the accelerator's own device counts
            return estimated_clock(self.hardware, self.result.fmax_estimate_mhz)
        return synthesized_clock(self.hardware, self.result.fmax_estimate_mhz)

    @property
    def summary(self) -> str:
        words = ", ".join(f"{value:,} {key.upper()}" for key, value in self.total._asdict().items())
        return f"{self.hardware.name}, {words}, {self.clock}"

    def to_json(self) -> dict[str, Any]:
        answer = {"hardware": self.hardware.name} | self.result.to_json(self.device) | provenance(self.hardware)
        if self.routed is not None:
            answer |= {"fmax_mhz": self.routed.fmax_mhz, "place_and_route": self.routed.to_json()}
        return answer | self.clock.to_json()

    def blocks(self) -> Sequence[Block]:
        result, answer = self.result, self.result.to_json(self.device)
        fit: list[Block] = [resource_table(self.hardware, result.total), Facts({"fits": answer["fits"]})]
        return [
            Table(
                f"{self.hardware.name}, {result.tool}, {answer['flow']}",
                ("module", "instances", "LUT", "FF", "DSP", "BRAM36"),
                [(module.name, module.instances, *module.together) for module in result.modules],
                ("all", "", *result.total),
            ),
            *(fit if self.device is not None else []),
            *_estimated_blocks(result, answer),
            *(_routed_blocks(self.hardware, self.routed) if self.routed is not None else []),
            Facts({"clock": self.clock}),
        ]


def synthesize(
    hw: HardwareLike,
    *,
    flow: str | None = None,
    pnr: bool = False,
    seed: int | None = None,
    time_limit: float | None = None,
    progress: Report | None = None,
) -> Synthesis:
    """LUT, FF, DSP and block RAM of an accelerator, per module and in total; with `pnr` its clock.

    Args:
        hw: an accelerator, a YAML file, or a name in hw_configs.
        flow: `xilinx` (7-series), `xilinx-up` (UltraScale+), `ecp5` or `gowin` (Arora V); by default the device's.
        pnr: place and route, too (ECP5, GW5AST-138C), which takes minutes to hours.
        seed: of place and route; 1.
        time_limit: seconds for place and route; 7200.
        progress: told how the tools go on.

    Raises:
        UserError: an unknown flow, a device that cannot be placed and routed, or an option without effect.
        RuntimeError: a tool failed.
    """
    chosen = None if flow is None else _flow(flow)
    if not pnr:
        refuse({"seed": seed, "time_limit": time_limit}, f"without {option('pnr')}")
    hardware = hardware_of(hw)
    if chosen is not None and hardware.totals.family == "xcup" != FAMILY[chosen]:
        device = hardware.totals.name
        raise UserError(f"{option('flow')}: '{flow}' given, must be xilinx-up for {device}: its slices are instances")
    if pnr:
        check_device(hardware.totals)
        if chosen is not None and FAMILY[chosen] != hardware.totals.family:
            raise UserError(
                f"{option('flow')}: '{flow}' given, must be that of {hardware.totals.name} with {option('pnr')}"
            )
    result = synthesize_hardware(hardware, chosen, progress)
    routed = place_and_route(hardware, progress, seed or 1, time_limit or TIME_LIMIT_S) if pnr else None
    return Synthesis(hardware, result, routed)


def _flow(name: str) -> Flow:
    for flow in FAMILY:
        if flow == name:
            return flow
    raise UserError(f"{option('flow')}: '{name}' given, must be {', '.join(FAMILY)}")


def _estimated_blocks(result: Synthesized, answer: dict[str, Any]) -> list[Block]:
    """The path that limits the clock before placement, and the clock that it allows."""
    if result.fmax_estimate_mhz is None or result.slowest_ns is None:
        return [Facts({"estimated clock": answer["fmax_estimate_is"]})]
    path = [
        (part.module, ", ".join(f"{number} {kind}" for kind, number in part.cells.items()), round(part.ns, 2))
        for part in stretches(result.slowest)
    ]
    return [
        Table(
            "slowest path before placement, register to register",
            ("through", "cells", "ns"),
            path,
            ("all", "", round(result.slowest_ns, 2)),
        ),
        Facts(
            {
                "estimated clock": f"{result.fmax_estimate_mhz:.1f} MHz, {answer['fmax_estimate_is']}",
                "shortened by": advice(answer["slowest_path_mended_by"], result.next_ns),
            }
        ),
    ]


def _routed_blocks(hw: Hardware, routed: Routed) -> list[Block]:
    """What place and route reached, and the path that limits it."""
    wanted = "reached" if routed.fmax_mhz >= hw.clock_mhz else f"below the {hw.clock_mhz:g} MHz of clock_mhz"
    return [
        Table(
            f"slowest path of {hw.name}, register to register",
            ("through", "ns"),
            routed.modules(),
            ("all", sum(step.delay_ns for step in routed.path)),
        ),
        Facts(
            {
                "clock": f"{routed.fmax_mhz:.1f} MHz, {wanted}",
                "device": f"{routed.device} {routed.package} grade {routed.speed_grade}, seed {routed.seed}; "
                f"{routed.tool}",
                "harness": f"{routed.harness_ff:,} of {routed.used.ff:,} flip-flops belong to the test harness",
                "took": f"{routed.wall_s:.0f} s",
            }
        ),
    ]
