"""NETWORK on the command line: a name of the zoo, or a file in any of the forms that are read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from codesign._reading import MOST_JSON, is_regular, read_text
from codesign.arch.hardware import Hardware
from codesign.cli.output import note
from codesign.cli.reading import NOTHING, Reading, read_integers
from codesign.data.dataset import Dataset
from codesign.errors import UserError
from codesign.formats.assignment import Assignment
from codesign.formats.ratio import Ratio, parse_ratio
from codesign.formats.row_format import RowFormat
from codesign.integer.layer_bits import assignment_of_bits, parse_bits
from codesign.integer.network import (
    MULTIPLIERS,
    IntArray,
    IntegerConv,
    IntegerNetwork,
    Scheme,
)
from codesign.integer.random_network import random_network
from codesign.integer.topology import integer_topology
from codesign.program import Plan, Planner, plan_network
from codesign.program.dealing import row_of
from codesign.program.input_digits import suited_input
from codesign.search.space import band_ratio, zoo_network, zoo_options
from codesign.sim.timing.network_timer import network_shape
from codesign.workload import zoo
from codesign.workload.encoder import ENCODERS, Encoder
from codesign.workload.network import Network
from codesign.workload.topology import Topology, read_topology
from codesign.workload.topology_network import network_of

FORMS = "a file that `quantize` wrote, a .csv topology, a .onnx, .tflite, .pt2 or .npz model"


def read_network(
    name: str, reading: Reading = NOTHING, hw: Hardware | None = None
) -> IntegerNetwork | Network | Topology:
    """What NETWORK names: integers from a quantized file, else the layers of a zoo network, a float model, a topology.

    `reading` and `hw` say how files of other tools are read (see `codesign.cli.reading`).

    Raises:
        UserError: no such network, the file cannot be read, or an option has no effect on it.
    """
    if not is_file(name) or Path(name).suffix.lower() == ".csv":
        reading.refuse(f"on {name}, which is no model of another tool")
    if not is_file(name):
        if (found := encoder(name)) is not None:
            return found.topology()
        if name.partition(":")[0] not in zoo.names():
            known = ", ".join((*zoo.names(), *ENCODERS))
            raise UserError(f"{name}: no such network, must be {FORMS}, or one of {known}")
        return zoo_network(name)
    if Path(name).suffix.lower() == ".csv":
        return read_topology(name)
    from codesign.interchange.load import FLOAT_FILES, import_float, is_float

    if Path(name).suffix.lower() in FLOAT_FILES and is_float(name, reading.shape):
        reading.refuse(f"on {name}, a float model whose weights are not used here", "--input-shape")
        return import_float(name, reading.shape)[0]
    return read_integers(name, reading, hw)


def is_file(name: str) -> bool:
    """Whether NETWORK means a file: there is one, or it has a suffix or a folder, as no name of the zoo has."""
    path = Path(name)
    return is_regular(path) or bool(path.suffix) or len(path.parts) > 1


def fitting(network: IntegerNetwork, dataset: Dataset) -> Dataset:
    """The data set; UserError if its images have another shape than the network's input."""
    if dataset.shape != network.image_shape:
        shape = "x".join(map(str, dataset.shape))
        raise UserError(f"data set '{dataset.name}' has images of {shape}, {network.name} takes {network.image_shape}")
    return dataset


def encoder(name: str) -> Encoder | None:
    """The encoder that NETWORK names, such as bert_base or bert_base:sequence=64; None if it names something else."""
    base = name.partition(":")[0]
    if base not in ENCODERS:
        return None
    options = zoo_options(name)
    if not options.keys() <= {"sequence"}:
        raise UserError(f"network '{base}' takes the option sequence, not {', '.join(sorted(options))}")
    return ENCODERS[base](**options)


def row_ratio(hw: Hardware, bits: str | None, ratio: str | None) -> tuple[Ratio, int]:
    """(shares of row formats, activation bits) that the options say; by default those of the hardware's bands."""
    if bits is not None:
        (weight_bits, act_bits), *others = parse_bits(bits)
        if others:
            raise UserError("--bits: a pair for every layer given, must be one pair here")
        return {RowFormat(Scheme.FIXED, weight_bits): 1.0}, act_bits
    return (parse_ratio(ratio) if ratio is not None else band_ratio(hw)), hw.act_bits


def read_topology_or_network(name: str) -> Topology | Network:
    """NETWORK for simulators that know sizes only."""
    found = read_network(name)
    return integer_topology(found) if isinstance(found, IntegerNetwork) else found


def integer_network(
    name: str,
    hw: Hardware,
    *,
    bits: str | None = None,
    ratio: str | None = None,
    assignment: Path | None = None,
    seed: int = 0,
    reading: Reading = NOTHING,
) -> IntegerNetwork:
    """The integers to run on `hw`.

    A network without integer weights (of the zoo, a topology, a float model) gets random ones in the row formats that
    `bits`, `ratio` or `assignment` says; by default its rows are dealt in proportion to the rows of the hardware's
    bands. Cycles do not depend on weights.

    Raises:
        UserError: no such network or file, or more than one way of choosing formats.
    """
    found, formats = _network_and_formats(name, hw, bits, ratio, assignment, reading)
    if isinstance(found, IntegerNetwork):
        return found
    multiplier = MULTIPLIERS[hw.multiplier_bits]
    if isinstance(formats, Assignment):
        return random_network(found, formats, seed=seed, multiplier=multiplier)
    return random_network(found, *formats, seed, multiplier)


class Planned(NamedTuple):
    """A network on an accelerator.

    Attributes:
        plan: of it.
        formats: of its rows.
        act_bits: the most that a stored map has.
        own: whether its rows were dealt as the accelerator's bands are.
        on: the plan of the same network on another accelerator.
    """

    plan: Plan
    formats: frozenset[RowFormat]
    act_bits: int
    own: bool
    on: Callable[[Hardware], Plan]


def network_plan(
    name: str,
    hw: Hardware,
    *,
    bits: str | None = None,
    ratio: str | None = None,
    assignment: Path | None = None,
    seed: int = 0,
    reading: Reading = NOTHING,
) -> Plan:
    """The plan of what `integer_network` gives for `hw`, without drawing weights for a network that has none.

    Raises:
        UserError: as `integer_network` and `plan_network`; without weights nothing is said of their sums.
    """
    return planned(name, hw, bits=bits, ratio=ratio, assignment=assignment, seed=seed, reading=reading).plan


def planned(
    name: str,
    hw: Hardware,
    *,
    bits: str | None = None,
    ratio: str | None = None,
    assignment: Path | None = None,
    seed: int = 0,
    reading: Reading = NOTHING,
) -> Planned:
    """`network_plan`, and what can be said of the network's formats."""
    found, formats = _network_and_formats(name, hw, bits, ratio, assignment, reading)
    if isinstance(found, IntegerNetwork):
        convs = [layer for layer in found.layers if isinstance(layer, IntegerConv)]
        used = {RowFormat(*form) for conv in convs for form in zip(conv.scheme, conv.weight_bits, strict=True)}
        most = max(tensor.bits for tensor in (found.input, *(x.output for x in found.layers)) if not tensor.wide)
        return Planned(plan_network(found, hw), frozenset(used), most, False, lambda other: plan_network(found, other))
    if not isinstance(formats, Assignment):
        formats = Assignment.random(found, *formats, seed)
    formats.check(found)
    shape = network_shape(found, formats)
    rows = [[row_of(form) for form in formats[conv.name]] for conv in shape.convs]
    used = {form for conv in shape.convs for form in formats[conv.name]}
    own = bits is None and ratio is None and assignment is None
    plan = Planner(shape, hw).plan(rows)
    return Planned(plan, frozenset(used), formats.act_bits, own, lambda other: Planner(shape, other).plan(rows))


def _network_and_formats(
    name: str, hw: Hardware, bits: str | None, ratio: str | None, assignment: Path | None, reading: Reading
) -> tuple[IntegerNetwork | Network, Assignment | tuple[Ratio, int]]:
    """What NETWORK names, and the row formats that the options say, which integers have of their own."""
    chosen = [option for option, value in (("--bits", bits), ("--ratio", ratio), ("--assignment", assignment)) if value]
    if len(chosen) > 1:
        raise UserError(f"{' and '.join(chosen)} given, must be at most one of them")
    if encoder(name) is not None:
        raise UserError(
            f"{name}: is no single program, since its host computes between the products; only for simulate"
        )
    found = read_network(name, reading, hw)
    if isinstance(found, IntegerNetwork):
        if chosen:
            raise UserError(f"{name}: {chosen[0]} given, but the formats of a quantized network are in its file")
        suited = suited_input(found, hw)
        if suited is not found:
            note(f"{name}: the host gives the input of {found.input.bits} bits as {suited.host.before[-1].words}")
        return suited, row_ratio(hw, None, None)
    network = network_of(found, name) if isinstance(found, Topology) else found
    if assignment is not None:
        return network, _read_assignment(assignment)
    if bits is not None:
        return network, assignment_of_bits(network, parse_bits(bits))
    return network, row_ratio(hw, None, ratio)


def _read_assignment(path: Path) -> Assignment:
    text = read_text(path, MOST_JSON, "an assignment")
    try:
        return Assignment.from_json(text)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def input_codes(network: IntegerNetwork, count: int, data: str | None, data_dir: Path | None, seed: int) -> IntArray:
    """Input codes (count, C, H, W): random, or the first test images of a data set."""
    source = network.input
    if data is None:
        return np.random.default_rng(seed).integers(0, 2**source.bits, (count, *source.shape))
    from codesign.data.sources import load_dataset
    from codesign.sim.functional import prepare_images

    dataset = fitting(network, load_dataset(data, data_dir))
    if count > len(dataset.test_images):
        raise UserError(
            f"--images: {count} given, must be at most {len(dataset.test_images)}, the test images of {data}"
        )
    return prepare_images(network, dataset.test_images[:count])
