"""The program `codesign`: its commands, and what happens when one cannot do its job.

Exit status: 0 done, 1 the job ran and its answer is bad news (a mismatch, a failing tool, no memory, an error of
codesign's own), 2 the input or an output cannot be used, 130 interrupted, 128 + N ended by signal N.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import threading
import traceback
import warnings
from pathlib import Path
from types import FrameType
from typing import TextIO

import typer

from codesign import __version__
from codesign._text import one_line
from codesign.cli import (
    accelerator,
    allocation,
    amed,
    board,
    comparison,
    demo,
    doctor,
    figures,
    files,
    model,
    quantizing,
    sweep,
    verify,
)
from codesign.cli.outputs import guarded
from codesign.errors import UserError, command_line

RETRY_S = 0.01
"""Pause before an interrupt is delivered that came where Python can only print and forget it."""
_interrupted = threading.Event()
"""A KeyboardInterrupt was raised: whatever exception then ends the command is its consequence."""

TRACEBACK = "CODESIGN_TRACEBACK"
"""Variable that has tracebacks printed."""
SAID = 500
"""Characters of an unforeseen exception's own message that are shown."""
PACKAGE = Path(__file__).resolve().parents[1]

app = typer.Typer(
    help="Hardware/software co-design of quantized neural networks.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
ACCELERATORS, NETWORKS, BITS, DESIGNS, TRUST = "Accelerators", "Networks", "Bits", "Many designs", "Trust"
"""Headings of the commands in the help, by task."""
app.command(rich_help_panel=ACCELERATORS)(guarded(accelerator.simulate))
app.command(rich_help_panel=ACCELERATORS)(guarded(accelerator.cosim))
app.command(rich_help_panel=ACCELERATORS)(guarded(figures.roofline))
app.command(rich_help_panel=ACCELERATORS)(guarded(board.generate))
app.command(name="compile", rich_help_panel=ACCELERATORS)(guarded(board.compile_))
app.command(rich_help_panel=ACCELERATORS)(guarded(accelerator.synth))
app.command(epilog=quantizing.EPILOG, rich_help_panel=NETWORKS)(guarded(model.quantize))
app.command(rich_help_panel=NETWORKS)(guarded(model.evaluate))
app.command(name="import", rich_help_panel=NETWORKS)(guarded(files.import_))
app.command(rich_help_panel=NETWORKS)(guarded(files.export))
app.command(rich_help_panel=BITS)(guarded(allocation.allocate))
app.command(rich_help_panel=BITS)(guarded(allocation.methods))
app.command(rich_help_panel=BITS)(guarded(comparison.compare))
app.command(rich_help_panel=BITS)(guarded(allocation.table))
app.command(rich_help_panel=BITS)(guarded(allocation.solve))
app.command(rich_help_panel=DESIGNS)(guarded(sweep.sweep))
app.command(rich_help_panel=DESIGNS)(guarded(model.search))
app.command(rich_help_panel=DESIGNS)(guarded(model.cosearch))
app.command("show", rich_help_panel=DESIGNS)(guarded(files.show_))
app.command(rich_help_panel=DESIGNS)(guarded(model.report))
app.command(rich_help_panel=TRUST)(guarded(verify.verify))
app.command(rich_help_panel=TRUST)(guarded(doctor.doctor))
app.add_typer(amed.app, name="amed", rich_help_panel=ACCELERATORS)
app.command(hidden=True)(guarded(demo.demo))


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
    """Run one command and exit with its status; every failure is one line on stderr, whatever it is."""
    _mend_streams()
    _interrupted.clear()
    if not os.environ.get(TRACEBACK):
        # what ends a thread, or is raised where Python can only print it, comes to the command as its consequence
        threading.excepthook = lambda _: None
    sys.unraisablehook = _unraisable
    signal.signal(signal.SIGTERM, _terminate)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup wants it
        signal.signal(signal.SIGHUP, _terminate)
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGALRM, _interrupt)
    from codesign.cli.output import noting  # looks at the streams

    with command_line(), noting():
        _run(arguments)


def _run(arguments: list[str] | None) -> None:
    try:
        status = app(args=arguments, prog_name="codesign", standalone_mode=False)
        _flush(sys.stdout)
    except (KeyboardInterrupt, typer.Abort):
        status = 130
    except Exception as error:
        if _interrupted.is_set():  # a library made another exception of it, or a worker's pipe broke
            status = 130
        elif isinstance(error, BrokenPipeError):
            _end(1)  # nobody reads any more, nobody is told
        elif isinstance(error, UserError):
            _fail(str(error), 2)
        elif isinstance(error, typer.TyperException):
            _fail(f"{error.format_message()} (try --help)", 2)
        else:
            _fail(describe(error), 1)
    if status == 130:
        _fail("interrupted", 130)
    _end(status if isinstance(status, int) else 0)


def describe(error: Exception) -> str:
    """One line on what was not foreseen: a tool's or the system's message as it is, anything else as an internal error.

    With `TRACEBACK` set, the traceback is printed, too.
    """
    if os.environ.get(TRACEBACK):
        traceback.print_exception(error)
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if Path(frame.filename).is_relative_to(PACKAGE)]
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename is not None else "output: " if error.errno == 28 else ""
        return f"{where}{error.strerror}"
    if type(error) is RuntimeError and frames and frames[-1] in ours:
        return str(error)  # this package's own word for a tool that failed
    place = "?"
    if ours:
        module = Path(ours[-1].filename).relative_to(PACKAGE.parent).with_suffix("")
        place = f"{'.'.join(module.parts)}:{ours[-1].lineno}"
    if isinstance(error, MemoryError):
        return f"out of memory in {place}; a smaller network, fewer images or a larger machine may help"
    if isinstance(error, RecursionError):
        return f"the input is nested too deeply for {place}"
    said = _one_of(error)
    return (
        f"internal error: {type(error).__name__}{f': {said}' if said else ''}, in {place}; please report it "
        f"with the command and its files; {TRACEBACK}=1 shows the traceback"
    )


def _one_of(error: Exception) -> str:
    try:
        return one_line(str(error), SAID)
    except Exception:  # it cannot even say what it is
        return ""


def _mend_streams() -> None:
    """Have all three streams, whatever the caller has closed, and characters that a stream cannot show as escapes.

    A closed one becomes /dev/null: else the next file to be opened would have its descriptor, and get what is printed.
    """
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(descriptor, "w" if descriptor else "r", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _fail(message: str, status: int) -> None:
    warnings.simplefilter("ignore")  # Amaranth warns of elaborations that an exception left unfinished
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    with contextlib.suppress(OSError, ValueError):
        print(f"codesign: {one_line(message)}", file=sys.stderr, flush=True)  # noqa: T201  the one place that may
    _end(status)


def _end(status: int) -> None:
    """Exit; what cannot be printed any more is not said by Python once again."""
    for stream, descriptor in ((sys.stdout, 1), (sys.stderr, 2)):
        try:
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, descriptor)
                os.close(null)
    sys.exit(status)


def _flush(stream: TextIO) -> None:
    """Have the answer out before success is said."""
    if not stream.closed:
        stream.flush()


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt, but not inside a finalizer: Python would print and forget it there. Try again then."""
    caller = frame
    while caller is not None:
        if caller.f_code.co_name == "__del__":
            signal.setitimer(signal.ITIMER_REAL, RETRY_S)
            return
        caller = caller.f_back
    _interrupted.set()
    raise KeyboardInterrupt


def _unraisable(what: sys.UnraisableHookArgs) -> None:
    """Interrupt again where the first was raised in a callback of a library, which cannot pass it on."""
    if os.environ.get(TRACEBACK):
        sys.__unraisablehook__(what)
    if issubclass(what.exc_type, KeyboardInterrupt):
        signal.setitimer(signal.ITIMER_REAL, RETRY_S)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
