"""Commands about files: import, export, and what a co-search left in its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from codesign.api.answer import Answer
from codesign.api.forms import Form
from codesign.api.names import hardware_names
from codesign.cli.options import DATA, DATA_DIR, JSON
from codesign.cli.reading import NOTHING, Reading, reads


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
    network: Annotated[
        str, typer.Argument(metavar="NET", help="A quantized network's file; or a folder that `cosearch` wrote.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The file, or a kit's new folder.")],
    to: Annotated[
        Form | None,
        typer.Option(
            help="qdq: for ONNX Runtime; qonnx: for Brevitas, FINN, qonnx; npz: arrays and a JSON that explains them; "
            "integer, integer-qonnx: ONNX that computes the very same integers."
        ),
    ] = None,
    hw: Annotated[
        str | None,
        typer.Option(
            metavar="HW",
            help="A kit for this accelerator (YAML, or a name): Verilog, driver, memory image, bench.",
            autocompletion=hardware_names,
        ),
    ] = None,
    point: Annotated[
        int | None, typer.Option(metavar="N", help="A kit of this point of the front of a co-search.")
    ] = None,
    images: Annotated[int | None, typer.Option(min=1, help="Images that the bench of a kit runs; 2.")] = None,
    data: DATA = None,
    data_dir: DATA_DIR = None,
    json: JSON = None,
    reading: Reading = NOTHING,
) -> None:
    """Write a quantized network for other tools, or with everything of its accelerator as a kit.

    A kit needs no codesign; its bench runs in Icarus or Verilator and compares results and cycles.
    """
    from codesign.api.cosearch_runs import export_point
    from codesign.api.files import export_network
    from codesign.api.given import refuse
    from codesign.api.kit import export_kit
    from codesign.cli.output import progress, save, show
    from codesign.errors import UserError

    if [to, hw, point].count(None) != 2:
        raise UserError("--to (a file), --hw (a kit) or --point (a kit, of a co-search): one of them must be given")
    answer: Answer
    if to is not None:
        refuse({"images": images, "data": data, "data_dir": data_dir}, "on a file; it is for a kit")
        answer = export_network(network, to, out, reading=reading)
    else:
        count = 2 if images is None else images
        with progress() as report:
            if hw is not None:
                answer = export_kit(
                    network, hw, out, images=count, data=data, data_dir=data_dir, reading=reading, progress=report
                )
            else:
                assert point is not None
                refuse({"data": data, **vars(reading)}, "on a point, whose network and data are the search's")
                answer = export_point(network, point, out, images=count, data_dir=data_dir, progress=report)
    show(answer)
    save(json, answer.to_json())


def show_(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A folder that `cosearch` wrote.")],
    point: Annotated[int | None, typer.Option(metavar="N", help="A point of the front, with its layers.")] = None,
    json: JSON = None,
) -> None:
    """The front of a finished co-search, or one point of it with bits and cycles of its layers."""
    from codesign.api.cosearch_runs import show as read
    from codesign.cli.output import save, show

    answer = read(run, point)
    show(answer)
    save(json, answer.to_json())
