"""What RMSMP and IMPQ claim of rows, on `xc7z020` and real images.

Run `python benchmarks/claims.py [--data-dir FOLDER]`. The network is MLPerf Tiny's ResNet-8 with its own weights
(`pretrainedResnet.tflite` in the data folder), the images are CIFAR-10's. Seeds draw the images that are looked at and
calibrated with. Three tables, of calibrated networks without training but for the last:

* rows in the ratio of `xc7z020`'s bands: by RMSMP's rule, at random, and with the least noise of decisions, which is
  how the method `codesign` deals them; beside all rows in one format. Latency is of 4-bit activations, exact.
* weights of 3.0 bits on average by IMPQ's noise gain: the same in the whole network, by layer, by kernel; activations
  of 8 bits; as published, and with margins below a tenth of the largest counted as that.
* RMSMP's 65 : 30 : 5, and the ratio of `xc7z020`'s bands, beside rows of one format; trained with quantizers on
  `cifar10_small` from the same weights, maps of 4 bits; latencies are of `xc7z020`.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import product
from pathlib import Path

import numpy as np
import torch
from resnet8_cifar import Bench, options, resnet8, spread
from rich.console import Console

from codesign import quantize, simulate
from codesign.allocation.costs import MIB, Costs
from codesign.allocation.methods.dealt_rows import dealt_rows
from codesign.allocation.problem import Limit
from codesign.allocation.sensitivities.decisions import DecisionNoise
from codesign.allocation.sensitivities.noise_gain import LEAST_MARGIN, NoiseGain
from codesign.allocation.solvers.lagrangian import Lagrangian
from codesign.allocation.solving import solve
from codesign.allocation.space import GRANULARITIES, Space, parse_choices
from codesign.allocation.tabulating import base_of, tabulated
from codesign.api.modules import FloatModel
from codesign.arch.load import load_hardware
from codesign.formats.assignment import Assignment
from codesign.formats.ratio import band_ratio
from codesign.formats.row_format import FIXED4, POT4
from codesign.quant.placing import array
from codesign.quant.rmsmp import assign

RANDOM = 5
"""Random dealings of a seed."""
BITS = 3.0

Found = dict[str, list[dict[str, float]]]


def rows_in_a_ratio(model: FloatModel, benches: list[Bench], console: Console) -> None:
    """The first table."""
    hw = load_hardware("xc7z020")
    ratio = band_ratio(hw)
    space = Space(model.network, parse_choices("w4a4,w4a8", 4))
    costs = Costs(space, hw)
    found: dict[int, Found] = {bits: defaultdict(list) for bits in (8, 4)}
    latency: dict[str, float] = {}
    for bench in benches:
        subject = bench.subject(model, space)
        fused = subject.model.fused
        by_rule = assign(subject.model, array(subject.images), ratio, count=len(subject.images), seed=bench.seed)
        rng = np.random.default_rng(bench.seed)
        dealt = {name: by_rule[name] for name in by_rule.rows}
        shuffled = [
            {name: tuple(forms[place] for place in rng.permutation(len(forms))) for name, forms in dealt.items()}
            for _ in range(RANDOM)
        ]
        ways = {
            "all rows PoT of 4 bits": [{item.name: (POT4,) * item.weight_shape[0] for item in fused.convs}],
            "all rows Fixed of 4 bits": [{item.name: (FIXED4,) * item.weight_shape[0] for item in fused.convs}],
            "in the ratio, at random": shuffled,
            "in the ratio, RMSMP's rule": [dealt],
            "in the ratio, least noise": [dealt_rows(subject, DecisionNoise().gains(subject), ratio)],
        }
        for name, ones in ways.items():
            for rows in ones:
                latency[name] = costs.latency_ms(Assignment.of(rows, 4))
                for bits in found:
                    found[bits][name].append(bench.accuracy(subject, Assignment.of(rows, bits)))
    parts = ", ".join(f"{form} {100 * share:.0f} %" for form, share in ratio.items())
    console.print(f"\nrows on {hw.name} ({parts}), {len(benches)} seeds, test accuracy without training\n")
    console.print("| rows | 8-bit activations | 4-bit activations | latency at 4 bits |\n| --- | ---: | ---: | ---: |")
    for name in found[8]:
        of_bits = (spread([one["test"] for one in found[bits][name]]) for bits in found)
        console.print(f"| {name} | {' | '.join(of_bits)} | {latency[name]:.3f} ms |")


def kernels_layers_network(model: FloatModel, benches: list[Bench], console: Console) -> None:
    """The second table."""
    hw = load_hardware("xc7z020_fixed_lut")
    choices = parse_choices("w8a8,w7a8,w6a8,w5a8,w4a8,w3a8,w2a8", 4)
    found: Found = defaultdict(list)
    for bench in benches:
        for granularity, least in product(GRANULARITIES, (LEAST_MARGIN, 0.1)):
            space = Space(model.network, choices, granularity)
            subject = bench.subject(model, space)
            losses = NoiseGain(least_margin=least).losses(subject)
            table = tabulated(space, losses, Costs(space, hw), base_of(space, None))
            weights = sum(np.prod(item.weight_shape) for item in space.convs.values())
            limit = Limit("size_mib", float(weights) * BITS / MIB)
            solved = solve(table, Lagrangian(), [limit])
            assignment = space.assignment(space.chosen(solved.point.choices))
            name = "kernel" if granularity == "row" else granularity
            found[name if least == LEAST_MARGIN else f"{name}, no margin below a tenth"].append(
                bench.accuracy(subject, assignment)
            )
        uniform = space.names.index("w3a8")
        assignment = space.assignment(np.full(len(space.groups), uniform))
        found["network"].append(bench.accuracy(subject, assignment))
    console.print(f"\nweights of {BITS} bits on average, {len(benches)} seeds, test accuracy without training\n")
    console.print("| bits differ by | validation | test |\n| --- | ---: | ---: |")
    for name in found:
        validation, test = (spread([one[kind] for one in found[name]]) for kind in ("validation", "test"))
        console.print(f"| {name} | {validation} | {test} |")


def trained_in_a_ratio(model: FloatModel, seeds: int, epochs: int, folder: Path, console: Console) -> None:
    """The third table."""
    hw = load_hardware("xc7z020")
    ways = {
        "all rows Fixed of 4 bits": "fixed4:100",
        "all rows PoT of 4 bits": "pot4:100",
        "PoT and Fixed of 4 bits, 65 : 35": "pot4:65,fixed4:35",
        "RMSMP, 65 : 30 : 5": "pot4:65,fixed4:30,fixed8:5",
        "RMSMP, the bands' ratio": ",".join(f"{form}:{share}" for form, share in band_ratio(hw).items()),
    }
    console.print(f"\nrows in a ratio, trained {epochs} epochs, {seeds} seeds\n")
    console.print("| rows | validation | test | latency on xc7z020 |\n| --- | ---: | ---: | ---: |")
    for name, ratio in ways.items():
        made = [
            quantize(model, "cifar10_small", ratio=ratio, act_bits=4, epochs=epochs, seed=seed, data_dir=folder)
            for seed in range(seeds)
        ]
        tests = [one.test.accuracy for one in made if one.test is not None]
        latency = simulate(hw, made[0]).to_json()["latency_ms"]
        accuracies = f"{spread([one.validation.accuracy for one in made])} | {spread(tests)}"
        console.print(f"| {name} | {accuracies} | {latency:.3f} ms |")


def main() -> None:
    """Print the tables."""
    parser = options(__doc__, 128)
    parser.add_argument("--epochs", type=int, default=12, help="of the networks that are trained")
    parser.add_argument("--tables", default="ratio,bits,trained", help="which of the three")
    given = parser.parse_args()
    torch.set_num_threads(1)
    console = Console(highlight=False, soft_wrap=True)
    model = resnet8(given.data_dir)
    benches = [Bench(given.data_dir, seed, given.images, given.test_images) for seed in range(given.seeds)]
    wanted = given.tables.split(",")
    if "ratio" in wanted:
        rows_in_a_ratio(model, benches, console)
    if "bits" in wanted:
        kernels_layers_network(model, benches, console)
    if "trained" in wanted:
        trained_in_a_ratio(model, given.seeds, given.epochs, given.data_dir, console)


if __name__ == "__main__":
    main()
