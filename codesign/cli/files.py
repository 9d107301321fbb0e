"""Commands about files of other tools: import and export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from codesign.api.forms import Form
from codesign.cli.reading import NOTHING, Reading, reads

JSON = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the answer as JSON.")]


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
    from codesign.api.files import import_network
    from codesign.cli.output import save, show

    answer = import_network(file, out, hw=hw, reading=reading)
    show(answer)
    save(json, answer.to_json())


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
    from codesign.api.files import export_network
    from codesign.cli.output import save, show

    answer = export_network(network, to, out, reading=reading)
    show(answer)
    save(json, answer.to_json())
