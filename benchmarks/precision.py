"""What bits buy: cycles of ResNet-18 at bits chosen layer by layer, and what the hardware for it costs.

Run `python benchmarks/precision.py`: the latency of `xc7z020_fixed_lut` at several assignments, by the exact timing
model, beside that of the same accelerator without `act_modes` and `pairs`; the cycles of eight convolutions
against those at 4/4, beside the ratio of bits that bit-serial hardware such as BARVINN's has; the processor time of
10,000 assignments with bits per map and per row. `--elements` prints instead the LUTs of processing elements of 8
products with neither, with codes of two widths, and with filters in two rows as well, by synthesis (some minutes;
results are cached), `--accelerators [NAME ...]` those of whole accelerators with and without both.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from time import process_time

import numpy as np
from rich.console import Console

from codesign.api.networks import Formats, network_plan
from codesign.arch.band import Band
from codesign.arch.hardware import Hardware
from codesign.arch.load import load_hardware
from codesign.arch.memory import Buffers, Memory
from codesign.arch.scheme import Scheme
from codesign.formats.row_format import FIXED4, FIXED8
from codesign.integer.layer_bits import assignment_of_bits, parse_bits
from codesign.rtl.array.packed import PackedElement
from codesign.rtl.array.processing_element import ProcessingElement
from codesign.rtl.geometry import Geometry
from codesign.rtl.modules import convert
from codesign.rtl.verilog import TOP, generate
from codesign.sim.synthesis.resources import synthesize
from codesign.sim.timing.network_timer import NetworkTimer, network_shape
from codesign.sim.timing.plan_timing import estimate
from codesign.workload import AvgPool, Conv, Flatten, Input, Linear, Network, Relu, zoo
from codesign.workload.layers import Layer

ASSIGNMENTS = {
    "4/4": "4/4",
    "first and last layer 8/8, rest 4/4": ",".join(["8/8", *["4/4"] * 19, "8/8"]),
    "8/4": "8/4",
    "4/8": "4/8",
    "8/8": "8/8",
    "4/2": "4/2",
    "2/4": "2/4",
    "2/2": "2/2",
    "first and last layer 8/8, rest 4/2": ",".join(["8/8", *["4/2"] * 19, "8/8"]),
}
SHAPES = [(64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1)]
"""Channels and strides of the convolutions of `plain_network`."""
ACC_BITS = 24
"""What ResNet-18's sums of 8-bit codes need."""
ELEMENTS = {
    "fixed2 lut": Band(scheme=Scheme.FIXED, weight_bits=2, rows=2, multiplier="lut"),
    "fixed4 lut": Band(scheme=Scheme.FIXED, weight_bits=4, rows=2, multiplier="lut"),
    "fixed4 dsp pack 4": Band(scheme=Scheme.FIXED, weight_bits=4, rows=2, pack=4),
    "pot4": Band(scheme=Scheme.POT, weight_bits=4, rows=2),
}


def plain(hw: Hardware) -> Hardware:
    """The accelerator without codes of twice the bits, and without filters in two rows."""
    data = hw.model_dump(mode="json")
    bands = [band | {"pairs": False} for band in data["bands"]]
    return Hardware.model_validate(data | {"act_modes": [], "bands": bands})


CRUMBS = Band(scheme=Scheme.FIXED, weight_bits=4, rows=2, multiplier="lut", crumbs=True)
"""Without some rows of this kind there are no codes of half the bits."""


def with_two_bit_rows(hw: Hardware) -> Hardware:
    """The same with rows of 2-bit weights in LUTs: 32 instead of 20 of 4 bits, whose elements take 163 LUTs, not 91."""
    data = hw.model_dump(mode="json")
    lut = {"weight_bits": 2, "rows": 32, "pairs": False}
    bands = [band | lut if band["multiplier"] == "lut" else band for band in data["bands"]]
    return Hardware.model_validate(data | {"bands": bands})


def print_latencies(console: Console) -> None:
    """ResNet-18 at 224 x 224."""
    network = zoo.get("resnet18")
    flagship, narrow = load_hardware("xc7z020_fixed_lut"), load_hardware("xc7z045_a2")
    built = {
        "without act_modes and pairs": plain(flagship),
        flagship.name: flagship,
        "the same with 32 rows of 2-bit weights": with_two_bit_rows(flagship),
        narrow.name: narrow,
    }
    console.print(f"| bits | {' | '.join(map(str, built))} |\n| --- |{' ---: |' * len(built)}")
    for name, bits in ASSIGNMENTS.items():
        assignment = assignment_of_bits(network, parse_bits(bits))
        shown = []
        for hw in built.values():
            if assignment.act_bits > hw.most_bits or ("8/" in bits and not hw.pair_bits):
                shown.append("does not run")
                continue
            cycles = NetworkTimer(network_shape(network, assignment), hw).assignment(assignment).total[0]
            shown.append(f"{cycles / hw.clock_mhz / 1e3:.2f} ms")
        console.print(f"| {name} | {' | '.join(shown)} |")


def print_mixed_rows(console: Console) -> None:
    """ResNet-18 with rows as `xc7z020` has them (`simulate xc7z020 resnet18 --act-bits A`)."""
    network, hw = zoo.get("resnet18"), load_hardware("xc7z020")
    console.print("| activations, rows as the bands of xc7z020 | latency |\n| --- | ---: |")
    for bits in (4, 8, 2):
        plan = network_plan(network, hw, Formats(act_bits=bits))
        console.print(f"| {bits} bits | {estimate(plan).total_cycles / hw.clock_mhz / 1e3:.2f} ms |")


def plain_network() -> Network:
    """Eight 3 x 3 convolutions on maps of 32 x 32 and less, without sums; a pooling and a classifier."""
    layers: list[Layer] = [Input("image", (), channels=64, height=32, width=32)]
    for place, (channels, stride) in enumerate(SHAPES):
        sides = (stride, stride)
        conv = Conv(f"conv{place}", (layers[-1].name,), channels, kernel=(3, 3), stride=sides, padding=(1, 1, 1, 1))
        layers += [conv, Relu(f"relu{place}", (conv.name,))]
    pool = AvgPool("pool", (layers[-1].name,), kernel=(4, 4), stride=(4, 4))
    return Network("plain", (*layers, pool, Flatten("flat", ("pool",)), Linear("fc", ("flat",), out_features=10)))


def print_law(console: Console) -> None:
    """Cycles of the convolutions against 4/4; bit-serial hardware takes the ratio of bits."""
    network, hw = plain_network(), load_hardware("xc7z020_fixed_lut")
    timer = NetworkTimer(network, hw)
    cycles = {
        bits: int(timer.assignment(assignment_of_bits(network, parse_bits(bits))).layers[0, : len(SHAPES)].sum())
        for bits in ("4/4", "8/4", "4/8", "8/8")
    }
    console.print(
        "| bits | cycles of eight convolutions at 32 x 32 | against 4/4 | ratio of bits |\n| --- | ---: | ---: | ---: |"
    )
    for bits, count in cycles.items():
        weights, acts = map(int, bits.split("/"))
        console.print(f"| {bits} | {count:,} | {count / cycles['4/4']:.2f} | {weights * acts / 16:.0f} |")


def print_timer(console: Console) -> None:
    """Processor time of many assignments with bits per map and per row, the first time and the second."""
    timer = NetworkTimer(zoo.get("resnet18"), load_hardware("xc7z020_fixed_lut"))
    rng, size = np.random.default_rng(0), 10_000
    filters = timer.counts({FIXED4: 1.0})[0, :, 0]
    wide = np.stack([rng.integers(0, count + 1, size) for count in filters], axis=1)
    bits = rng.choice((4, 8), (size, len(timer.tensors)))
    for what in ("first", "again"):
        began = process_time()
        timer.cycles((FIXED4, FIXED8), np.stack([filters - wide, wide], axis=2), bits)
        console.print(f"10,000 assignments of ResNet-18, {what}: {process_time() - began:.2f} s of processor time")


def print_elements(console: Console) -> None:
    """LUTs and flip-flops of elements."""
    titles = ["element", "plain", "act_modes", "act_modes and pairs", "act_modes [2, 4, 8]", "the same and pairs"]
    console.print(f"| {' | '.join(titles)} |\n| --- |{' ---: |' * (len(titles) - 1)}")
    for name, band in ELEMENTS.items():
        shown = []
        for modes, pairs in (((), False), ((4, 8), False), ((4, 8), True), ((2, 4, 8), False), ((2, 4, 8), True)):
            if pairs and band.scheme is not Scheme.FIXED:
                shown.append("-")
                continue
            built = band.model_copy(update={"pairs": pairs, "crumbs": 2 in modes and band.multiplier == "lut"})
            if 2 in modes and not built.crumbs:  # a filter over narrow codes takes two lines
                built = built.model_copy(update={"rows": 2 * built.rows})
            hw = Hardware(
                name="element",
                device="xc7z045",
                columns=1,
                dot=8,
                act_bits=4,
                act_modes=modes,
                acc_bits=ACC_BITS,
                bands=(built, CRUMBS) if 2 in modes and not built.crumbs else (built,),
                buffers=Buffers(activation_words=64, weight_words=64),
                memory=Memory(width_bits=256, latency=1),
            )
            geometry = Geometry(hw)
            element = (PackedElement if band.pack > 1 else ProcessingElement)(geometry, hw.bands[0])
            total = synthesize(convert(element, "pe"), "pe", "xc7").total
            shown.append(f"{total.lut} LUT, {total.ff} FF, {total.dsp} DSP")
        console.print(f"| {name} | {' | '.join(shown)} |")


FLAGSHIPS = ("xc7z020", "xc7z020_fixed_lut", "xc7z045")


def print_accelerators(console: Console, names: Sequence[str]) -> None:
    """LUTs of whole accelerators without `act_modes` and `pairs`, and with them."""
    console.print("| accelerator | multipliers | without | with | |\n| --- | ---: | ---: | ---: | ---: |")
    for name in names:
        given = load_hardware(name)
        for bits in sorted({16, given.multiplier_bits}):
            hw = Hardware.model_validate(given.model_dump(mode="json") | {"multiplier_bits": bits})
            without, luts = (synthesize(generate(each), TOP, "xc7").total.lut for each in (plain(hw), hw))
            console.print(f"| {name} | {bits} bits | {without:,} | {luts:,} | {100 * (luts / without - 1):+.1f} % |")


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--elements", action="store_true", help="LUTs of processing elements instead of latencies")
    parser.add_argument("--accelerators", nargs="*", metavar="NAME", help="LUTs of whole ones; all flagships")
    given = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True)
    if given.elements:
        print_elements(console)
    if given.accelerators is not None:
        print_accelerators(console, given.accelerators or FLAGSHIPS)
    if not given.elements and given.accelerators is None:
        for table in (print_latencies, print_mixed_rows, print_law, print_timer):
            table(console)


if __name__ == "__main__":
    main()
