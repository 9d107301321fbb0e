"""Arguments and options that several commands have, described once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from codesign.api.names import hardware_names, network_names

HW = Annotated[
    str,
    typer.Argument(metavar="HW", help="A YAML file, or the name of one in hw_configs/.", autocompletion=hardware_names),
]
NETWORK = Annotated[
    str,
    typer.Argument(
        metavar="NETWORK",
        help="A zoo name, a quantized file, .onnx or .tflite, a .csv topology.",
        autocompletion=network_names,
    ),
]
JSON = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the answer as JSON.")]
BITS = Annotated[str | None, typer.Option(metavar="W/A", help="Fixed-point weights of W bits, activations of A bits.")]
RATIO = Annotated[str | None, typer.Option(help="Shares of row formats, such as pot4:60,fixed4:35,fixed8:5.")]
ACT_BITS = Annotated[
    int | None, typer.Option(metavar="A", help="Activations of A bits, the rows as --ratio or the bands of HW are.")
]
ENERGY = Annotated[
    str, typer.Option(metavar="FILE", help="Energies of single operations: YAML, or a name in hw_configs/energy/.")
]
ASSIGNMENT = Annotated[Path | None, typer.Option(metavar="FILE", help="The format of every row, as JSON.")]
DATA = Annotated[str | None, typer.Option(metavar="DATASET", help="Test images of a data set, not random.")]
DATA_DIR = Annotated[Path | None, typer.Option(help="Folder with the data set's files.")]
DEFAULT_ENERGY = "horowitz2014"
BATCH = Annotated[int, typer.Option(min=1, help="Images from one start.")]
SEED = Annotated[int, typer.Option(min=0, help="Seed of random weights and images.")]
