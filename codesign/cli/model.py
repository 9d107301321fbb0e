"""Commands about models: quantize, search, report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from codesign.cli.allocation import CEILINGS, FLOORS, numbers_by_name
from codesign.cli.quantizing import NOTHING as AS_USUAL
from codesign.cli.quantizing import Quantizing, quantizes
from codesign.cli.reading import INPUT_SHAPE, NOTHING, Reading, numbers, reads, shape

JSON = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the answer as JSON.")]
DATA_DIR = Annotated[Path | None, typer.Option(help="Folder with the data set's files.")]


@quantizes
def quantize(
    network: Annotated[
        str, typer.Argument(metavar="NETWORK", help="A zoo name, or a float model: .onnx, .tflite, .pt2.")
    ],
    data: Annotated[
        str, typer.Option(metavar="DATASET", help="To train and test with: a name, a folder of images, an .npz file.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Where the integer network goes.")],
    ratio: Annotated[
        str | None, typer.Option(help="Shares of row formats, such as pot4:60,fixed4:35,fixed8:5.")
    ] = None,
    hw: Annotated[
        str | None,
        typer.Option("--hw", metavar="HW", help="Ratio and bits that suit an accelerator: YAML, or a name."),
    ] = None,
    act_bits: Annotated[int | None, typer.Option(min=2, max=8, help="Bits of the activations; 4, or HW's.")] = None,
    assignment: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Formats of rows and bits of maps, such as `allocate` writes; no method."),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Beside --assignment: start from what `allocate --keep-weights` wrote."),
    ] = None,
    at_most: CEILINGS = None,
    at_least: FLOORS = None,
    float_epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Epochs of training in float; 20; of models with weights none, or from them."),
    ] = None,
    mean: Annotated[str | None, typer.Option(help="What the network takes is (pixel - mean) / std.")] = None,
    std: Annotated[str | None, typer.Option(help="One number, or one for each channel, as --mean.")] = None,
    input_shape: INPUT_SHAPE = None,
    device: Annotated[str, typer.Option(help="Of torch, where training computes, such as cuda.")] = "cpu",
    checkpoints: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep every epoch here; the same command continues from it.")
    ] = None,
    data_dir: DATA_DIR = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of training.")] = 0,
    json: JSON = None,
    quantizing: Quantizing = AS_USUAL,
) -> None:
    """Train a network, quantize it, lower it to integers and save them.

    With --hw in the row formats, their ratio and the activations that suit an accelerator. With --at-most, such as
    latency_ms=2, formats and bits of every layer are chosen so that the accelerator keeps it; with --at-least
    accuracy=0.9 so that the result has it, at the least latency where there is no other limit.
    """
    from codesign.api.quantization import quantize as run
    from codesign.cli.output import progress, save, show

    with progress() as report:
        answer = run(
            network,
            data,
            hardware=hw,
            out=out,
            ratio=ratio,
            act_bits=act_bits,
            assignment=assignment,
            weights=weights,
            at_most=numbers_by_name("--at-most", at_most),
            at_least=numbers_by_name("--at-least", at_least),
            **vars(quantizing),
            float_epochs=float_epochs,
            mean=numbers("--mean", mean),
            std=numbers("--std", std),
            input_shape=shape(input_shape),
            data_dir=data_dir,
            device=device,
            checkpoints=checkpoints,
            seed=seed,
            progress=report,
        )
    show(answer)
    save(json, answer.to_json())


@reads
def evaluate(
    network: Annotated[str, typer.Argument(metavar="NET", help="A quantized network's file.")],
    data: Annotated[str, typer.Option(metavar="DATASET", help="Data set whose test images, or others, are run.")],
    images: Annotated[int | None, typer.Option(min=1, help="How many of them; all by default.")] = None,
    split: Annotated[
        Literal["test", "validation"],
        typer.Option(help="Test images are for what is reported; to compare and choose, use validation images."),
    ] = "test",
    data_dir: DATA_DIR = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the split, where the data has none: that of training.")] = 0,
    json: JSON = None,
    reading: Reading = NOTHING,
) -> None:
    """Accuracy of a quantized network on the integer model, which gives what the accelerator gives."""
    from codesign.api.evaluation import evaluate as run
    from codesign.cli.output import save, show

    answer = run(network, data, images=images, split=split, data_dir=data_dir, seed=seed, reading=reading)
    show(answer)
    save(json, answer.to_json())


def search(
    space: Annotated[str, typer.Argument(metavar="SPACE", help="A YAML file, or a name in hw_configs/search/.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="RUN", help="Run folder; an old one is continued.")],
    data_dir: DATA_DIR = None,
    jobs: Annotated[int, typer.Option(min=1, help="Networks to train, and points to evaluate, at a time.")] = 1,
    json: JSON = None,
) -> None:
    """Search hardware and quantization together; the chosen point is verified on RTL."""
    from codesign.api.searching import search as run
    from codesign.cli.output import progress, save, show

    with progress() as report:
        answer = run(space, out, data_dir=data_dir, jobs=jobs, progress=report)
    show(answer)
    save(json, answer.to_json())


def cosearch(
    space: Annotated[str, typer.Argument(metavar="SPACE", help="A YAML file, or a name in hw_configs/cosearch/.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="RUN", help="Run folder; an old one is continued.")],
    data_dir: DATA_DIR = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Candidates to train at a time; by default 1, in a cluster all it holds.")
    ] = None,
    study: Annotated[
        str | None,
        typer.Option(metavar="URL", help="A database, postgresql:// or sqlite://, whose study others work on, too."),
    ] = None,
    backend: Annotated[Literal["local", "ray"], typer.Option(help="Who trains: this machine, or a cluster.")] = "local",
    address: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Of the cluster's head; by default one is started here.")
    ] = None,
    json: JSON = None,
) -> None:
    """Find accelerators and bits together, within constraints; every point of the front runs on the RTL."""
    from codesign.api.cosearching import cosearch as run
    from codesign.cli.output import progress, save, show

    with progress() as report:
        answer = run(
            space,
            out,
            data_dir=data_dir,
            jobs=1 if jobs is None and backend == "local" else jobs,
            study=study,
            backend=backend,
            address=address,
            progress=report,
        )
    show(answer)
    save(json, answer.to_json())


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A folder that `search` or `cosearch` wrote.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="The page; RUN/report.html.")] = None,
    json: JSON = None,
) -> None:
    """Write the HTML report of a finished search."""
    from codesign.api.searching import report as write
    from codesign.cli.output import progress, save, show

    with progress() as told:
        answer = write(run, out, progress=told)
    show(answer)
    save(json, answer.to_json())
