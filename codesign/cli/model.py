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
    from codesign.api.given import check_data_dir
    from codesign.cli.output import facts, progress, save
    from codesign.search.loop import Search
    from codesign.search.space import load_space

    loaded = load_space(space)
    check_data_dir(loaded.data, data_dir)
    with progress() as report:
        result = Search(loaded, out, data_dir, report).run()
    print_points(result)
    rtl = result.rtl
    facts(
        {
            **chosen_facts(result),
            "clock": result.chosen.clock,
            "latency": f"{result.chosen.latency_ms:.4g} ms at {result.chosen.clock.mhz:.4g} MHz",
            "on RTL": f"{rtl['images']} test images, {rtl['mismatched_values']} of {rtl['compared_values']:,} values "
            f"differ, {rtl['rtl_cycles']:,} cycles (model {rtl['model_cycles']:,})",
            "run folder": out,
            **({"note": result.made_again} if result.made_again else {}),
        }
    )
    save(json, result.to_json())


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A folder that `search` wrote.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="The page; RUN/report.html.")] = None,
    json: JSON = None,
) -> None:
    """Write the HTML report of a finished search."""
    from codesign._files import read_json, write_text
    from codesign.cli.output import facts, percent, progress, save
    from codesign.errors import UserError
    from codesign.search.loop import RESULT, Search
    from codesign.search.space import load_space

    if not (run / RESULT).is_file():
        raise UserError(f"{run}: holds no finished search, must be a folder that `codesign search` wrote")
    with progress() as show:
        result = Search(load_space(run / "space.yaml"), run, None, show).run()
        from codesign.report.page import render

        chosen = result.chosen
        summary = {
            "network": f"{result.space.network} on {result.space.data}",
            "chosen accelerator": chosen.hardware.name,
            "validation accuracy, which chose": f"{percent(chosen.validation_accuracy, 2)} of "
            f"{chosen.validation_images} images",
            "test accuracy, measured once": f"{percent(chosen.test_accuracy or 0, 2)} of {chosen.test_images} images",
            "clock": str(chosen.clock),
            "latency": f"{chosen.latency_ms:.4f} ms at {chosen.clock.mhz:.4g} MHz",
            "LUT / DSP": f"{chosen.lut:,} / {chosen.dsp}",
            "points": f"{len(result.points)}, {len(result.front)} on the front",
        }
        target = out or run / "report.html"
        write_text(target, render(result, summary, f"{result.space.network}: hardware and quantization"))
    facts({"report": target})
    save(json, read_json(run / RESULT) | {"report": str(target)})


def print_points(result: Any) -> None:
    """The table of a search's points: all with validation accuracies, those on the front with test accuracies."""
    from codesign.cli.output import percent, table
    from codesign.search.space import describe_bands

    table(
        f"{result.space.network} on {result.space.data}: latency, accuracy, LUTs",
        ("bands", "columns", "dot", "validation", "cycles", "ms", "MHz", "LUT", "DSP", "test", ""),
        [
            (
                describe_bands(point.hardware.bands),
                f"{point.hardware.array_columns}{' ws' if point.hardware.dataflow == 'ws' else ''}",
                point.hardware.dot,
                percent(point.validation_accuracy, 2),
                point.cycles,
                point.latency_ms,
                point.clock.mhz,
                point.lut,
                point.dsp,
                None if point.test_accuracy is None else percent(point.test_accuracy, 2),
                result.standing(point),
            )
            for point in sorted(result.points, key=lambda point: point.costs)
        ],
    )
    if result.rejected:
        table("cannot be built, or cannot run the network", ("variant", "why"), list(result.rejected.items()))


def chosen_facts(result: Any) -> dict[str, object]:
    """What was chosen by which images, and its accuracy on those that had no part in it."""
    from codesign.cli.output import percent

    chosen = result.chosen
    return {
        "chosen": chosen.hardware,
        "by": f"{percent(chosen.validation_accuracy, 2)} of {chosen.validation_images} validation images",
        "test accuracy": f"{percent(chosen.test_accuracy, 2)} of {chosen.test_images} test images, after the choice",
    }
