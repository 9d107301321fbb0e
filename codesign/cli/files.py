"""Commands about files of other tools: import and export."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from codesign.cli.reading import NOTHING, Reading, read_integers, reads

if TYPE_CHECKING:
    from codesign.integer.network import IntegerNetwork

JSON = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the answer as JSON.")]


class Form(StrEnum):
    """What a network is exported as."""

    QDQ = "qdq"
    QONNX = "qonnx"
    INTEGER = "integer"
    INTEGER_QONNX = "integer-qonnx"
    NPZ = "npz"


@reads
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A quantized model: .onnx (QDQ, QONNX), .tflite, .npz.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Where the integer network goes.")],
    hw: Annotated[
        str | None, typer.Option("--hw", metavar="HW", help="The accelerator that it is for: YAML, or a name.")
    ] = None,
    json: JSON = None,
    reading: Reading = NOTHING,
) -> None:
    """Read a model that another tool quantized and save its integers."""
    from codesign.arch.load import load_hardware
    from codesign.cli.output import facts, save
    from codesign.errors import UserError
    from codesign.integer.storage import save_network
    from codesign.provenance import provenance

    if not out.parent.is_dir():
        raise UserError(f"{out}: its folder does not exist")
    network = read_integers(file, reading, None if hw is None else load_hardware(hw), say=False)
    save_network(network, out)
    described = description(network)
    facts({"network": network.name, **{key.replace("_", " "): value for key, value in described.items()}, "file": out})
    save(json, {"network": network.name, "imported_from": str(file), **described, "file": str(out)} | provenance())


@reads
def export(
    network: Annotated[str, typer.Argument(metavar="NET", help="A quantized network's file.")],
    to: Annotated[
        Form,
        typer.Option(
            help="qdq: for ONNX Runtime; qonnx: for Brevitas, FINN, qonnx; npz: arrays and a JSON that explains them; "
            "integer, integer-qonnx: ONNX that computes the very same integers."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The file to write.")],
    json: JSON = None,
    reading: Reading = NOTHING,
) -> None:
    """Write a quantized network for other tools."""
    from codesign.cli.output import facts, save
    from codesign.errors import UserError
    from codesign.provenance import provenance

    suffix = ".npz" if to is Form.NPZ else ".onnx"
    if out.suffix != suffix:
        raise UserError(f"--out: '{out}' given, must end in {suffix} for --to {to}")
    if not out.parent.is_dir():
        raise UserError(f"{out}: its folder does not exist")
    files = write(read_integers(network, reading), to, out)
    facts({"written": ", ".join(map(str, files)), "form": to})
    save(json, {"network": network, "form": str(to), "files": [str(file) for file in files]} | provenance())


def write(network: IntegerNetwork, to: Form, out: Path) -> tuple[Path, ...]:
    """Write `network` as `to` says; the files."""
    from codesign.interchange.description import export_arrays
    from codesign.interchange.onnx_integer import export_integer_onnx
    from codesign.interchange.onnx_qdq_export import export_quantized_onnx

    if to is Form.NPZ:
        return export_arrays(network, out)
    if to is Form.QDQ or to is Form.QONNX:
        export_quantized_onnx(network, out, "qdq" if to is Form.QDQ else "qonnx")
    else:
        export_integer_onnx(network, out, "onnx" if to is Form.INTEGER else "qonnx")
    return (out,)


def description(network: IntegerNetwork) -> dict[str, object]:
    """What an imported network is, for people: its input, its passes, the formats of its rows, what the host does."""
    from collections import Counter

    from codesign.formats.row_format import RowFormat
    from codesign.integer.network import IntegerConv

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
        **({"biases": biases} if (biases := network.provenance.get("biases")) else {}),
        **{f"host_{when}": words for when, words in network.host.words.items()},
    }
