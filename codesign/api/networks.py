"""What NETWORK may be: a name of the zoo, a file in any of the forms that are read, or in Python the network itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from codesign._reading import MOST_JSON, is_regular, read_text
from codesign.api.given import refuse
from codesign.api.modules import FloatModel, is_module, read_module
from codesign.api.notes import note
from codesign.api.reading import NOTHING, Reading, read_integers
from codesign.arch.hardware import Hardware
from codesign.arch.load import load_hardware
from codesign.data.dataset import Dataset
from codesign.errors import UserError, option
from codesign.formats.assignment import Assignment
from codesign.formats.ratio import Ratio, parse_ratio
from codesign.formats.row_format import RowFormat
from codesign.integer.layer_bits import BITS, assignment_of_bits, parse_bits
from codesign.integer.network import (
    MULTIPLIERS,
    IntArray,
    IntegerConv,
    IntegerNetwork,
    Scheme,
)
from codesign.integer.random_network import random_network
from codesign.integer.topology import integer_topology
from codesign.program import Plan, Planner, plan_images, plan_network
from codesign.program.dealing import row_of
from codesign.program.input_digits import suited_input
from codesign.program.pruned import without_pruned
from codesign.search.space import band_ratio, zoo_network, zoo_options
from codesign.sim.clock import at_known_clock
from codesign.sim.timing.network_timer import network_shape
from codesign.sim.timing.plan_timing import fastest
from codesign.workload import zoo
from codesign.workload.encoder import ENCODERS, Encoder
from codesign.workload.network import Network
from codesign.workload.topology import Topology, read_topology
from codesign.workload.topology_network import network_of

if TYPE_CHECKING:
    from torch import nn
    from torch.export import ExportedProgram


class Quantized(Protocol):
    """What has integers among other things, such as the answer of `quantize`."""

    @property
    def integer_network(self) -> IntegerNetwork:
        """The integers."""


HardwareLike = Hardware | str | Path
"""An accelerator, a YAML file, or a name in hw_configs."""
if TYPE_CHECKING:
    Found = IntegerNetwork | Network | Topology
    """What has been read: integers, or layers without weights."""
    Loaded = Found | FloatModel | Encoder
    NetworkLike = Loaded | Quantized | str | Path | nn.Module | ExportedProgram
    """Whatever `load_network` takes."""

FORMS = "a file that `quantize` wrote, a .csv topology, a .onnx, .tflite, .pt2 or .npz model"


class Formats(NamedTuple):
    """How the rows of a network without integer weights are formatted; nothing given means as the bands are.

    Attributes:
        bits: `W/A` for fixed-point weights and activations, or a pair for each layer, such as `8/8,4/4`.
        ratio: shares of row formats, such as `pot4:60,fixed4:35,fixed8:5`.
        assignment: the format of every row, or the JSON file that has it.
        act_bits: of all activations, with `ratio` or with rows as the bands are; those of the hardware if left out.
    """

    bits: str | None = None
    ratio: str | Ratio | None = None
    assignment: Assignment | str | Path | None = None
    act_bits: int | None = None

    @property
    def rows(self) -> list[str]:
        """Names of the options that are given and choose row formats."""
        return [name for name in self.given if name != option("act_bits")]

    @property
    def given(self) -> list[str]:
        """Names of the options that are given."""
        return [option(name) for name, value in self._asdict().items() if value]


BANDS = Formats()


def hardware_of(hw: HardwareLike) -> Hardware:
    """The accelerator, see `HardwareLike`, in front of the memory that it has at the clock of its latencies."""
    return at_known_clock(hw if isinstance(hw, Hardware) else load_hardware(hw))


def load_network(
    network: NetworkLike,
    input_shape: tuple[int, ...] | None = None,
    *,
    hw: HardwareLike | None = None,
    round_bias: bool = False,
    join_sums: bool = False,
    multiplier_bits: int | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
) -> Loaded:
    """A network by its name in the zoo, from a file, from a torch module or a program of `torch.export`.

    Args:
        network: a name such as `resnet8` or `smallcnn:size=32,channels=3`, a path, a module, or a network itself.
        input_shape: (channels, height, width) or (features,) of one image: needed with a module, and with an .onnx
            file that leaves sizes open.
        hw: the accelerator that integers of another tool are for; see `codesign.api.reading.read_integers`.
        round_bias, join_sums, multiplier_bits, mean, std: see `codesign.api.reading.Reading`.

    Returns:
        Integers of a quantized model; layers and weights of a float one; layers alone of the zoo's; a topology; an
        encoder.

    Raises:
        UserError: no such network, it cannot be read, or an option has no effect on it.
    """
    reading = Reading(round_bias, join_sums, multiplier_bits, mean, std, input_shape)
    on = None if hw is None else hardware_of(hw)
    if isinstance(network, Encoder):
        reading.refuse(f"on {network.name}, an encoder")
        return network
    if isinstance(network, str) and (found := encoder(network)) is not None:
        reading.refuse(f"on {network}, which is no model of another tool")
        return found
    if (model := float_model(network, reading)) is not None:
        return model
    return read_network(network, reading, on)


def float_model(network: NetworkLike, reading: Reading = NOTHING) -> FloatModel | None:
    """The layers and the weights that `network` is or names; None if it is no float model."""
    if isinstance(network, FloatModel):
        reading.refuse("on a model that has been read")
        return network
    if is_module(network):
        reading.refuse("on a torch module", "input_shape")
        return read_module(network, reading.input_shape)
    if not isinstance(network, str | Path) or not is_file(network):
        return None
    from codesign.interchange.load import FLOAT_FILES, float_host, import_float, is_float

    if Path(network).suffix.lower() not in FLOAT_FILES or not is_float(network, reading.input_shape):
        return None
    reading.refuse(f"on {network}, a float model", "input_shape")
    layers, state = import_float(network, reading.input_shape)
    return FloatModel(layers, state, float_host(network, reading.input_shape))


def read_network(network: NetworkLike, reading: Reading = NOTHING, hw: Hardware | None = None) -> Found:
    """The integers of what is quantized, else the layers of a zoo network, a float model, an encoder, a topology.

    `reading` and `hw` say how files of other tools are read (see `codesign.api.reading`).

    Raises:
        UserError: no such network, it cannot be read, or an option has no effect on it.
    """
    if isinstance(network, FloatModel) or is_module(network):
        model = float_model(network, reading)
        assert model is not None
        return model.network
    if not isinstance(network, str | Path):
        reading.refuse(f"on {name_of(network)}, which has been read")
        if isinstance(network, Encoder):
            return network.topology()
        if isinstance(network, IntegerNetwork | Network | Topology):
            return network
        if isinstance(found := getattr(network, "integer_network", None), IntegerNetwork):
            return found
        raise UserError(f"network: a {type(network).__name__} given, must be {FORMS}, a network or a torch module")
    name = str(network)
    if not is_file(name) or Path(name).suffix.lower() == ".csv":
        reading.refuse(f"on {name}, which is no model of another tool")
    if not is_file(name):
        if (transformer := encoder(name)) is not None:
            return transformer.topology()
        if name.partition(":")[0] not in zoo.names():
            known = ", ".join((*zoo.names(), *ENCODERS))
            raise UserError(f"{name}: no such network, must be {FORMS}, or one of {known}")
        return zoo_network(name)
    if Path(name).suffix.lower() == ".csv":
        return read_topology(name)
    from codesign.interchange.load import FLOAT_FILES, float_layers, is_float

    if Path(name).suffix.lower() in FLOAT_FILES and is_float(name, reading.input_shape):
        reading.refuse(f"on {name}, a float model whose weights are not used here", "input_shape")
        return float_layers(name, reading.input_shape)
    return read_integers(name, reading, hw)


def quantized_network(network: NetworkLike, reading: Reading = NOTHING, hw: Hardware | None = None) -> IntegerNetwork:
    """The integers that `network` is or that are in the file of that name; UserError if it has none."""
    if isinstance(network, str | Path):
        return read_integers(network, reading, hw)
    found = read_network(network, reading, hw)
    if not isinstance(found, IntegerNetwork):
        raise UserError(f"{name_of(network)}: has no integers; codesign.quantize gives them")
    return found


def name_of(network: NetworkLike) -> str:
    """What messages call it."""
    return str(network) if isinstance(network, str | Path) else str(getattr(network, "name", type(network).__name__))


def is_file(name: str | Path) -> bool:
    """Whether NETWORK means a file: there is one, or it has a suffix or a folder, as no name of the zoo has."""
    path = Path(name)
    return isinstance(name, Path) or is_regular(path) or bool(path.suffix) or len(path.parts) > 1


def fitting(network: IntegerNetwork, dataset: Dataset) -> Dataset:
    """The data set; UserError if its images have another shape than the network's input."""
    if dataset.shape != network.image_shape:
        shape = "x".join(map(str, dataset.shape))
        raise UserError(f"data set '{dataset.name}' has images of {shape}, {network.name} takes {network.image_shape}")
    return dataset


def encoder(network: NetworkLike) -> Encoder | None:
    """The encoder that it is, or that the name means: bert_base or bert_base:sequence=64; None if something else."""
    if not isinstance(network, str):
        return network if isinstance(network, Encoder) else None
    base = network.partition(":")[0]
    if base not in ENCODERS:
        return None
    options = zoo_options(network)
    if not options.keys() <= {"sequence"}:
        raise UserError(f"network '{base}' takes the option sequence, not {', '.join(sorted(options))}")
    return ENCODERS[base](**options)


def row_ratio(hw: Hardware, formats: Formats = BANDS) -> tuple[Ratio, int]:
    """(shares of row formats, activation bits) that `bits` or `ratio` say; by default those of the hardware's bands."""
    if formats.bits is not None:
        (weight_bits, act_bits), *others = parse_bits(formats.bits)
        if others:
            raise UserError(f"{option('bits')}: a pair for every layer given, must be one pair here")
        return {RowFormat(Scheme.FIXED, weight_bits): 1.0}, act_bits
    act_bits = hw.act_bits if formats.act_bits is None else formats.act_bits
    if formats.ratio is None:
        return band_ratio(hw), act_bits
    return parse_ratio(formats.ratio) if isinstance(formats.ratio, str) else formats.ratio, act_bits


def read_topology_or_network(network: NetworkLike) -> Topology | Network:
    """NETWORK for simulators that know sizes only."""
    found = read_network(network)
    return integer_topology(found) if isinstance(found, IntegerNetwork) else found


def integer_network(
    network: NetworkLike, hw: Hardware, formats: Formats = BANDS, seed: int = 0, reading: Reading = NOTHING
) -> IntegerNetwork:
    """The integers to run on `hw`.

    A network without integer weights (of the zoo, a topology, a float model) gets random ones in the row formats that
    `formats` says; by default its rows are dealt in proportion to the rows of the hardware's bands. Cycles do not
    depend on weights.

    Raises:
        UserError: no such network or file, or more than one way of choosing formats.
    """
    found, chosen = _network_and_formats(network, hw, formats, reading)
    if isinstance(found, IntegerNetwork):
        return found
    multiplier = MULTIPLIERS[hw.multiplier_bits]
    if isinstance(chosen, Assignment):
        return random_network(found, chosen, seed=seed, multiplier=multiplier)
    return random_network(found, *chosen, seed, multiplier)


def layers_of(network: NetworkLike, hw: Hardware, formats: Formats = BANDS, reading: Reading = NOTHING) -> Network:
    """The layers of a network without integers, whose formats can be chosen.

    Raises:
        UserError: no such network or file, or its formats are in its file.
    """
    found, _ = _network_and_formats(network, hw, formats, reading)
    if isinstance(found, IntegerNetwork):
        raise UserError(f"{name_of(network)}: has integers, whose bits are in its file, and no others to choose from")
    return found


class Planned(NamedTuple):
    """A network on an accelerator.

    Attributes:
        plan: of it.
        formats: of its rows.
        act_bits: the most that a stored map has.
        own: whether its rows were dealt as the accelerator's bands are.
        weight_bits: of each layer, the mean of its filters; None without weights.
        on: the plan of the same network on another accelerator.
        many: the plan of so many images from one start.
    """

    plan: Plan
    formats: frozenset[RowFormat]
    act_bits: int
    own: bool
    weight_bits: tuple[float | None, ...]
    on: Callable[[Hardware], Plan]
    many: Callable[[int], Plan]


def network_plan(
    network: NetworkLike, hw: Hardware, formats: Formats = BANDS, seed: int = 0, reading: Reading = NOTHING
) -> Plan:
    """The plan of what `integer_network` gives for `hw`, without drawing weights for a network that has none.

    Raises:
        UserError: as `integer_network` and `plan_network`; without weights nothing is said of their sums.
    """
    return planned(network, hw, formats, seed, reading).plan


def planned(
    network: NetworkLike, hw: Hardware, formats: Formats = BANDS, seed: int = 0, reading: Reading = NOTHING
) -> Planned:
    """`network_plan`, and what can be said of the network's formats."""
    found, chosen = _network_and_formats(network, hw, formats, reading)
    if isinstance(found, IntegerNetwork):
        convs = [layer for layer in found.layers if isinstance(layer, IntegerConv)]
        used = {RowFormat(*form) for conv in convs for form in zip(conv.scheme, conv.weight_bits, strict=True)}
        most = max(tensor.bits for tensor in (found.input, *(x.output for x in found.layers)) if not tensor.wide)
        return Planned(
            plan_network(found, hw),
            frozenset(used),
            most,
            False,
            weight_bits(found),
            lambda other: plan_network(found, other),
            lambda images: plan_network(found, hw, images, fastest),
        )
    dealt = chosen if isinstance(chosen, Assignment) else Assignment.random(found, *chosen, seed)
    dealt.check(found)
    shape, dealt = without_pruned(network_shape(found, dealt), dealt)
    rows = [[row_of(form) for form in dealt[conv.name]] for conv in shape.convs]
    used = {form for conv in shape.convs for form in dealt[conv.name]}
    planner = Planner(shape, hw)
    plan = planner.plan(rows)
    bits = {conv.name: fmean(form.bits for form in dealt[conv.name]) for conv in shape.convs}
    return Planned(
        plan,
        frozenset(used),
        dealt.act_bits,
        not formats.rows,
        tuple(bits.get(layer.name) for layer in shape.layers),
        lambda other: Planner(shape, other).plan(rows),
        lambda images: plan_images(planner, rows, images, fastest).plan,
    )


def weight_bits(network: IntegerNetwork) -> tuple[float | None, ...]:
    """Bits of the weights of each layer, the mean of its filters; None without weights."""
    return tuple(fmean(layer.weight_bits) if isinstance(layer, IntegerConv) else None for layer in network.layers)


def _network_and_formats(
    network: NetworkLike, hw: Hardware, formats: Formats, reading: Reading
) -> tuple[IntegerNetwork | Network, Assignment | tuple[Ratio, int]]:
    """What NETWORK names, and the row formats that the options say, which integers have of their own."""
    given = formats.given
    if len(rows := formats.rows) > 1:
        raise UserError(f"{' and '.join(rows)} given, must be at most one of them")
    if formats.act_bits is not None:
        _check_act_bits(formats)
    if encoder(network) is not None:
        raise UserError(
            f"{name_of(network)}: is no single program, since its host computes between the products; only for simulate"
        )
    found = read_network(network, reading, hw)
    if isinstance(found, IntegerNetwork):
        if given:
            raise UserError(
                f"{name_of(network)}: {given[0]} given, but the formats of a quantized network are in its file"
            )
        suited = suited_input(found, hw)
        if suited is not found:
            words = suited.host.before[-1].words
            note(f"{name_of(network)}: the host gives the input of {found.input.bits} bits as {words}")
        return suited, row_ratio(hw)
    layers = network_of(found, name_of(network)) if isinstance(found, Topology) else found
    if formats.assignment is not None:
        if isinstance(formats.assignment, Assignment):
            return layers, formats.assignment
        return layers, read_assignment(formats.assignment)
    if formats.bits is not None:
        return layers, assignment_of_bits(layers, parse_bits(formats.bits))
    return layers, row_ratio(hw, formats)


def _check_act_bits(formats: Formats) -> None:
    """UserError if `act_bits` are no bits of activations, or something else says them."""
    name, bits = option("act_bits"), formats.act_bits
    if bits not in BITS:
        raise UserError(f"{name}: {bits} given, must be {BITS.start} to {BITS.stop - 1}")
    if others := [given for given in formats.rows if given != option("ratio")]:
        raise UserError(f"{name}: given beside {others[0]}, which has the bits of activations: leave it out")


def read_assignment(path: str | Path) -> Assignment:
    """The format of every row, from the JSON file that has it; UserError if it cannot be read."""
    text = read_text(path, MOST_JSON, "an assignment")
    try:
        return Assignment.from_json(text)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def input_codes(
    network: IntegerNetwork, images: int | np.ndarray, data: str | Dataset | None, data_dir: Path | None, seed: int
) -> IntArray:
    """Input codes (count, C, H, W) of random images, of the first test images of a data set, or of the images given.

    Args:
        network: the codes are those of its input.
        images: how many; or (N, C, H, W) real numbers in what the network was trained on.
        data: a data set, or its name; None for random codes.
        data_dir: folder with the files of the one that is named.
        seed: of random codes.
    """
    from codesign.sim.functional import prepare_images

    source = network.input
    if not isinstance(images, int):
        refuse({"data": data}, f"beside {option('images')} that are given themselves")
        pixels = np.asarray(images, dtype=np.float32)
        if pixels.ndim != 4 or pixels.shape[1:] != network.image_shape or not len(pixels):
            raise UserError(
                f"{option('images')}: an array of shape {pixels.shape} given, must be (N, "
                f"{', '.join(map(str, network.image_shape))}), N at least 1"
            )
        return prepare_images(network, pixels)
    if data is None:
        return np.random.default_rng(seed).integers(0, 2**source.bits, (images, *source.shape))
    from codesign.data.sources import load_dataset

    dataset = fitting(network, data if isinstance(data, Dataset) else load_dataset(data, data_dir))
    if images > len(dataset.test_images):
        raise UserError(
            f"{option('images')}: {images} given, must be at most {len(dataset.test_images)}, the test images of "
            f"{dataset.name}"
        )
    return prepare_images(network, dataset.test_images[:images])
