"""What bits buy: cycles of ResNet-18 at bits chosen layer by layer, and what the hardware for it costs.

Run `python benchmarks/precision.py`: the latency of `xc7z020_fixed_lut` with `act_modes: [4, 8]`, `pairs: true` and
`acc_bits: 24` at several assignments, by the exact timing model. `--elements` prints instead the LUTs of processing
elements of 8 products with neither, with codes of two widths, and with filters in two rows as well, by synthesis (some
minutes; results are cached).
"""

from __future__ import annotations

import argparse

from rich.console import Console

from codesign.arch.band import Band
from codesign.arch.hardware import Hardware
from codesign.arch.load import load_hardware
from codesign.arch.memory import Buffers, Memory
from codesign.arch.scheme import Scheme
from codesign.integer.layer_bits import assignment_of_bits, parse_bits
from codesign.rtl.array.packed import PackedElement
from codesign.rtl.array.processing_element import ProcessingElement
from codesign.rtl.geometry import Geometry
from codesign.rtl.modules import convert
from codesign.sim.synthesis.resources import synthesize
from codesign.sim.timing.network_timer import NetworkTimer, network_shape
from codesign.workload import zoo

ASSIGNMENTS = {
    "4/4": "4/4",
    "first and last layer 8/8, rest 4/4": ",".join(["8/8", *["4/4"] * 19, "8/8"]),
    "8/4": "8/4",
    "4/8": "4/8",
    "8/8": "8/8",
}
ACC_BITS = 24
"""What ResNet-18's sums of 8-bit codes need."""
ELEMENTS = {
    "fixed4 lut": Band(scheme=Scheme.FIXED, weight_bits=4, rows=2, multiplier="lut"),
    "fixed4 dsp pack 4": Band(scheme=Scheme.FIXED, weight_bits=4, rows=2, pack=4),
    "pot4": Band(scheme=Scheme.POT, weight_bits=4, rows=2),
}


def precise(hw: Hardware) -> Hardware:
    """The accelerator with codes of twice the bits, and with filters in two rows of its fixed bands."""
    data = hw.model_dump(mode="json")
    bands = [band | {"pairs": True} if band["scheme"] == "fixed" else band for band in data["bands"]]
    modes = [hw.act_bits, 2 * hw.act_bits]
    return Hardware.model_validate(data | {"act_modes": modes, "acc_bits": ACC_BITS, "bands": bands})


def print_latencies(console: Console) -> None:
    """ResNet-18 at 224 x 224."""
    network = zoo.get("resnet18")
    plain = load_hardware("xc7z020_fixed_lut")
    console.print("| bits | xc7z020_fixed_lut | with act_modes and pairs |\n| --- | ---: | ---: |")
    for name, bits in ASSIGNMENTS.items():
        assignment = assignment_of_bits(network, parse_bits(bits))
        shown = []
        for hw in (plain, precise(plain)):
            if assignment.act_bits > hw.most_bits or ("8/" in bits and not hw.pair_bits):
                shown.append("does not run")
                continue
            cycles = NetworkTimer(network_shape(network, assignment), hw).assignment(assignment).total[0]
            shown.append(f"{cycles / hw.clock_mhz / 1e3:.2f} ms")
        console.print(f"| {name} | {' | '.join(shown)} |")


def print_elements(console: Console) -> None:
    """LUTs and flip-flops of elements."""
    console.print("| element | plain | act_modes | act_modes and pairs |\n| --- | ---: | ---: | ---: |")
    for name, band in ELEMENTS.items():
        shown = []
        for modes, pairs in (((), False), ((4, 8), False), ((4, 8), True)):
            if pairs and band.scheme is not Scheme.FIXED:
                shown.append("-")
                continue
            hw = Hardware(
                name="element",
                device="xc7z045",
                columns=1,
                dot=8,
                act_bits=4,
                act_modes=modes,
                acc_bits=ACC_BITS,
                bands=(band.model_copy(update={"pairs": pairs}),),
                buffers=Buffers(activation_words=64, weight_words=64),
                memory=Memory(width_bits=256, latency=1),
            )
            geometry = Geometry(hw)
            element = (PackedElement if band.pack > 1 else ProcessingElement)(geometry, hw.bands[0])
            total = synthesize(convert(element, "pe"), "pe", "xc7").total
            shown.append(f"{total.lut} LUT, {total.ff} FF, {total.dsp} DSP")
        console.print(f"| {name} | {' | '.join(shown)} |")


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--elements", action="store_true", help="LUTs of processing elements instead of latencies")
    given = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True)
    (print_elements if given.elements else print_latencies)(console)


if __name__ == "__main__":
    main()
