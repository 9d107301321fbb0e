"""The program `codesign`: its commands, and what happens when one cannot do its job.

Exit status: 0 done, 1 the job ran and its answer is bad news (a mismatch, a failing tool), 2 the input cannot be used,
130 interrupted.
"""

from __future__ import annotations

import signal
import sys
import warnings
from types import FrameType

import typer

from codesign import __version__
from codesign.cli import accelerator, amed, board, demo, doctor, figures, files, model, sweep, verify
from codesign.errors import UserError

RETRY_S = 0.01
"""Pause before an interrupt is delivered that came while Python ran a finalizer."""

app = typer.Typer(
    help="Hardware/software co-design of quantized neural networks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command()(accelerator.simulate)
app.command()(accelerator.cosim)
app.command()(board.generate)
app.command(name="compile")(board.compile_)
app.command()(accelerator.synth)
app.command()(figures.roofline)
app.command()(model.quantize)
app.command()(model.evaluate)
app.command(name="import")(files.import_)
app.command()(files.export)
app.command()(model.search)
app.command()(sweep.sweep)
app.command()(model.report)
app.command()(verify.verify)
app.add_typer(amed.app, name="amed")
app.command()(doctor.doctor)
app.command(hidden=True)(demo.demo)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"codesign {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Hardware/software co-design of quantized neural networks."""


def run(arguments: list[str] | None = None) -> None:
    """Run one command and exit with its status; every failure a person can act on is one line on stderr."""
    signal.signal(signal.SIGTERM, _terminate)
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGALRM, _interrupt)
    try:
        status = app(args=arguments, prog_name="codesign", standalone_mode=False)
    except UserError as error:
        _fail(str(error), 2)
    except typer.TyperException as error:
        _fail(f"{error.format_message()} (try --help)", 2)
    except (KeyboardInterrupt, typer.Abort):
        status = 130
    except BrokenPipeError:
        sys.stderr.close()
        status = 1
    except (RuntimeError, OSError) as error:
        _fail(str(error), 1)
    if status == 130:
        _fail("interrupted", 130)
    sys.exit(status if isinstance(status, int) else 0)


def _fail(message: str, status: int) -> None:
    warnings.simplefilter("ignore")  # Amaranth warns of elaborations that an exception left unfinished
    text = " ".join(message.split())
    print(f"codesign: {text}", file=sys.stderr)  # noqa: T201  the one place that may
    sys.exit(status)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt, but not inside a finalizer: Python would print and forget it there. Try again then."""
    caller = frame
    while caller is not None:
        if caller.f_code.co_name == "__del__":
            signal.setitimer(signal.ITIMER_REAL, RETRY_S)
            return
        caller = caller.f_back
    raise KeyboardInterrupt


def _terminate(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
