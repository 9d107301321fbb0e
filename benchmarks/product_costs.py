"""What a product costs in every kind of band: a processing element alone, synthesized for a device's family.

Run `python benchmarks/product_costs.py [--device NAME]` (some minutes; results are cached). Prints the tables of
docs/reference/accelerator.md: LUTs, flip-flops and DSP slices of an element (which is four elements with `pack 4`, two
with `pack 2`), accumulator and result register included, and the LUTs of a product.
"""

from __future__ import annotations

import argparse

from rich.console import Console

from codesign.arch.band import Band
from codesign.arch.devices import DEVICES, PACKING_PORT
from codesign.arch.hardware import Hardware
from codesign.arch.memory import Buffers, Memory
from codesign.arch.scheme import Scheme
from codesign.rtl.array.packed import PackedElement
from codesign.rtl.array.processing_element import ProcessingElement
from codesign.rtl.geometry import Geometry
from codesign.rtl.modules import convert
from codesign.sim.synthesis.resources import synthesize

BANDS = (
    Band(scheme=Scheme.BINARY, weight_bits=1, rows=1),
    Band(scheme=Scheme.TERNARY, weight_bits=2, rows=1),
    *(Band(scheme=Scheme.POT, weight_bits=bits, rows=1) for bits in (3, 4, 5)),
    *(Band(scheme=Scheme.APOT, weight_bits=bits, rows=1) for bits in (4, 5)),
    *(Band(scheme=Scheme.FIXED, weight_bits=bits, rows=1, multiplier="lut") for bits in (4, 8)),
    *(Band(scheme=Scheme.FIXED, weight_bits=bits, rows=1) for bits in (4, 8)),
    Band(scheme=Scheme.FIXED, weight_bits=8, rows=1, pack=2),
    Band(scheme=Scheme.FIXED, weight_bits=4, rows=2, pack=4),
)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dot", type=int, default=8)
    parser.add_argument("--act-bits", type=int, default=4)
    parser.add_argument("--acc-bits", type=int, default=22)
    parser.add_argument("--device", choices=DEVICES, default="xc7z045")
    given = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"dot {given.dot}, {given.act_bits}-bit activations, {given.acc_bits}-bit accumulators\n")
    console.print("| band | LUT | FF | DSP | products | LUT per product |\n| --- | ---: | ---: | ---: | ---: | ---: |")
    family = DEVICES[given.device].family
    for band in BANDS:
        if band.pack > 1 and family not in PACKING_PORT:
            continue
        geometry = Geometry(
            Hardware(
                name="element",
                device=given.device,
                columns=1,
                dot=given.dot,
                act_bits=given.act_bits,
                acc_bits=given.acc_bits,
                bands=(band,),
                buffers=Buffers(activation_words=64, weight_words=64),
                memory=Memory(width_bits=256, latency=1),
            )
        )
        element = (PackedElement if band.pack > 1 else ProcessingElement)(geometry, band)
        total = synthesize(convert(element, "pe"), "pe", family).total
        products = given.dot * band.pack
        built = f" {band.multiplier}" if band.multiplier else ""
        name = f"{band.scheme}{band.weight_bits}{built}" + (f" pack {band.pack}" if band.pack > 1 else "")
        console.print(f"| {name} | {total.lut} | {total.ff} | {total.dsp} | {products} | {total.lut / products:.1f} |")


if __name__ == "__main__":
    main()
