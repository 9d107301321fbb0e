"""Arguments and options that several commands have, described once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def _configurations(incomplete: str) -> list[str]:
    """Names that complete what a shell has of an accelerator; it completes files itself where there are none."""
    from codesign.arch.load import config_names

    return [name for name in config_names() if name.startswith(incomplete)]


def _networks(incomplete: str) -> list[str]:
    """The same of a network."""
    from codesign.workload import zoo

    return [name for name in zoo.names() if name.startswith(incomplete)]


HW = Annotated[
    str,
    typer.Argument(
        metavar="HW", help="A YAML file, or the name of one in hw_configs/.", autocompletion=_configurations
    ),
]
NETWORK = Annotated[
    str,
    typer.Argument(
        metavar="NETWORK",
        help="A zoo name, a quantized file, .onnx or .tflite, a .csv topology.",
        autocompletion=_networks,
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
SEED = Annotated[int, typer.Option(min=0, help="Seed of random weights and images.")]
