"""Commands about models: quantize, search, report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from codesign.cli.quantizing import DEFAULT_ACT_BITS, DEFAULT_FLOAT_EPOCHS, DONE, Quantizing, how, quantizes
from codesign.cli.quantizing import NOTHING as AS_USUAL
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
    float_epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs of training in float; 20. Models with weights take none.")
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

    With --hw in the row formats, their ratio and the activations that suit an accelerator.
    """
    from codesign.api.given import check_data_dir, refuse
    from codesign.api.networks import is_file
    from codesign.arch.load import load_hardware
    from codesign.cli.output import facts, percent, progress, save, table
    from codesign.data.sources import load_dataset
    from codesign.errors import UserError
    from codesign.formats.ratio import parse_ratio
    from codesign.integer.storage import save_network
    from codesign.interchange.building import with_steps
    from codesign.provenance import provenance
    from codesign.search.space import band_ratio, suited, zoo_network

    if is_file(network):
        from codesign.interchange.load import float_host, import_float

        size = shape(input_shape)
        (source, state), steps = import_float(network, size), float_host(network, size)
    else:
        refuse({"input_shape": input_shape}, f"on {network}, which is no file")
        source, state, steps = zoo_network(network), None, ()
    if state is not None:
        refuse({"float_epochs": float_epochs}, f"on {network}, which brings its weights")
    check_data_dir(data, data_dir)
    formats = parse_ratio(ratio) if ratio is not None else None
    if hw is not None:
        refuse({"ratio": ratio, "act_bits": act_bits}, "beside --hw, which says both")
        hardware = load_hardware(hw)
        formats, act_bits = band_ratio(hardware), hardware.act_bits
    act_bits = DEFAULT_ACT_BITS if act_bits is None else act_bits
    if not out.parent.is_dir():
        raise UserError(f"{out}: its folder does not exist")
    options = quantizing.options(formats, act_bits, float_epochs or DEFAULT_FLOAT_EPOCHS)
    dataset = load_dataset(data, data_dir, seed)
    if mean is not None or std is not None:
        dataset = dataset.normalized(numbers("--mean", mean) or (0.0,), numbers("--std", std) or (1.0,))
    with progress() as report:
        from codesign.quant.options import RunOptions
        from codesign.quant.pipeline import quantize as run_pipeline

        run = RunOptions(seed, report, device=device, checkpoints=checkpoints)
        result = run_pipeline(source, dataset, options, float_state=state, test=True, run=run)
    tested = result.test
    assert tested is not None
    integers = with_steps(result.integer_network, steps)
    save_network(integers, out)
    shares = {str(form): share for form, share in result.assignment.shares().items()}
    suits = [hw] if hw is not None else suited(options.formats.shares, act_bits)
    facts(
        {
            "network": f"{source.name} on {dataset}",
            "rows": ", ".join(f"{form} {percent(share)}" for form, share in shares.items()),
            "quantized": how(integers.provenance),
            "suits": ", ".join(suits) or "the bands of none of hw_configs; --hw HW takes those of an accelerator",
            **{f"host {when}": words for when, words in integers.host.words.items()},
            "file": out,
        }
    )
    table(
        "accuracy: compare and choose by validation images; test images are for what is reported, once",
        ("images", "", "float", "quantized", "integers", "same class, integers and quantized"),
        [
            (
                name,
                found.images,
                *(percent(value, 2) for value in (found.float_accuracy, found.quantized_accuracy, found.accuracy)),
                percent(found.agreement, 2),
            )
            for name, found in (("validation", result.validation), ("test", tested))
        ],
    )
    answer: dict[str, Any] = {
        "network": source.name,
        "data": dataset.name,
        "method": options.formats.method,
        "act_bits": act_bits,
        **{name: integers.provenance[name] for name in DONE},
        **result.validation.facts("validation"),
        **tested.facts("test"),
        "shares": shares,
        "suits": suits,
        "file": str(out),
    }
    save(json, answer | provenance(seed=seed))


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
    json: JSON = None,
) -> None:
    """Search hardware and quantization together; the chosen point is verified on RTL."""
    from codesign.api.searching import search as run
    from codesign.cli.output import progress, save, show

    with progress() as report:
        answer = run(space, out, data_dir=data_dir, progress=report)
    show(answer)
    save(json, answer.to_json())


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A folder that `search` wrote.")],
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
