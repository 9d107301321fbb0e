"""Quantized models in files of other tools: read, and written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codesign._extras import require
from codesign.api.answer import Answer
from codesign.api.blocks import Block, Facts
from codesign.api.forms import Form
from codesign.api.networks import HardwareLike, hardware_of, name_of, quantized_network
from codesign.api.reading import NOTHING, Reading, read_integers
from codesign.errors import UserError, option
from codesign.formats.row_format import RowFormat
from codesign.integer.network import IntegerConv, IntegerNetwork
from codesign.integer.storage import save_network
from codesign.provenance import provenance

if TYPE_CHECKING:
    from codesign.api.networks import NetworkLike


@dataclass(frozen=True, eq=False, repr=False)
class Imported(Answer):
    """The integers of a model that another tool quantized.

    Attributes:
        integer_network: the network.
        source: the file that it was read from.
        file: where the integers were saved.
    """

    integer_network: IntegerNetwork
    source: Path
    file: Path

    @property
    def summary(self) -> str:
        return f"{self.integer_network.name}, of {self.source}, in {self.file}"

    def to_json(self) -> dict[str, Any]:
        network = self.integer_network
        about = {"network": network.name, "imported_from": str(self.source), **description(network)}
        return about | {"file": str(self.file)} | provenance()

    def blocks(self) -> Sequence[Block]:
        network = self.integer_network
        words = {key.replace("_", " "): value for key, value in description(network).items()}
        return [Facts({"network": network.name, **words, "file": self.file})]


@dataclass(frozen=True, eq=False, repr=False)
class Exported(Answer):
    """A network in files for other tools.

    Attributes:
        network: what was exported.
        form: what as.
        files: what was written.
    """

    network: str
    form: Form
    files: tuple[Path, ...]

    @property
    def summary(self) -> str:
        return f"{self.network} as {self.form} in {', '.join(map(str, self.files))}"

    def to_json(self) -> dict[str, Any]:
        answer = {"network": self.network, "form": str(self.form), "files": [str(file) for file in self.files]}
        return answer | provenance()

    def blocks(self) -> Sequence[Block]:
        return [Facts({"written": ", ".join(map(str, self.files)), "form": self.form})]


def import_network(
    file: str | Path, out: str | Path, *, hw: HardwareLike | None = None, reading: Reading = NOTHING
) -> Imported:
    """Read a model that another tool quantized and save its integers.

    Args:
        file: an .onnx (QDQ, QONNX), .tflite or .npz.
        out: the file to write.
        hw: the accelerator that it is for: biases are kept as far as its bands hold them.
        reading: how the file is read.

    Raises:
        UserError: the file cannot be read or written, or an option has no effect on it.
    """
    check_folder(out)
    network = read_integers(file, reading, None if hw is None else hardware_of(hw), say=False)
    save_network(network, Path(out))
    return Imported(network, Path(file), Path(out))


def export_network(network: NetworkLike, to: Form | str, out: str | Path, *, reading: Reading = NOTHING) -> Exported:
    """Write a quantized network for other tools.

    Args:
        network: a quantized network, or its file.
        to: `qdq` for ONNX Runtime; `qonnx` for Brevitas, FINN, qonnx; `npz` for arrays and a JSON that explains them;
            `integer`, `integer-qonnx` for ONNX that computes the very same integers.
        out: the file to write, .npz or .onnx.
        reading: how a file of another tool is read.

    Raises:
        UserError: no such form, a wrong suffix, or the network cannot be read or exported.
    """
    if to not in list(Form):
        raise UserError(f"{option('to')}: '{to}' given, must be one of {', '.join(Form)}")
    form, path = Form(to), Path(out)
    suffix = ".npz" if form is Form.NPZ else ".onnx"
    if path.suffix != suffix:
        raise UserError(f"{option('out')}: '{path}' given, must end in {suffix} for {option('to')} {form}")
    check_folder(path)
    files = _write(quantized_network(network, reading), form, path)
    return Exported(name_of(network), form, files)


def check_folder(out: str | Path) -> None:
    """UserError if the folder of a file to be written is not there."""
    if not Path(out).parent.is_dir():
        raise UserError(f"{out}: its folder does not exist")


def _write(network: IntegerNetwork, form: Form, out: Path) -> tuple[Path, ...]:
    from codesign.interchange.description import export_arrays
    from codesign.interchange.onnx_integer import export_integer_onnx
    from codesign.interchange.onnx_qdq_export import export_quantized_onnx

    if form is Form.NPZ:
        return export_arrays(network, out)
    require("onnx", "writing ONNX")
    if form is Form.QDQ or form is Form.QONNX:
        export_quantized_onnx(network, out, "qdq" if form is Form.QDQ else "qonnx")
    else:
        export_integer_onnx(network, out, "onnx" if form is Form.INTEGER else "qonnx")
    return (out,)


def description(network: IntegerNetwork) -> dict[str, object]:
    """What an integer network is, for people: its input, its passes, the formats of its rows, what the host does."""
    convs = [layer for layer in network.layers if isinstance(layer, IntegerConv)]
    counts = Counter(
        str(RowFormat(*form)) for layer in convs for form in zip(layer.scheme, layer.weight_bits, strict=True)
    )
    source, output = network.input, network.output
    return {
        "input": f"{'x'.join(map(str, source.shape))}, {source.bits} bits, zero point {source.zero_point}",
        "output": f"{'x'.join(map(str, output.shape))}, {output.bits} bits",
        "passes": len(network.layers),
        "macs": sum(
            layer.weight[0].size * layer.output.channels * layer.output.height * layer.output.width for layer in convs
        ),
        "rows": ", ".join(f"{form} x {count:,}" for form, count in sorted(counts.items())),
        **({"biases": biases} if (biases := network.bias_report) else {}),
        **{f"host_{when}": words for when, words in network.host.words.items()},
    }
