"""The boundary of the command: every failure is one line, bounded and harmless; streams may be closed or full."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from codesign._text import LINE, one_line, visible
from codesign.cli import main, output
from codesign.cli.outputs import OUTPUTS, check_outputs
from codesign.errors import UserError

Run = Callable[..., tuple[int, str, str]]
REPOSITORY = Path(__file__).parents[2]


def command(*arguments: str, folder: Path, shell: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """A command in a shell, with what `shell` adds, such as redirections."""
    return subprocess.run(
        ["bash", "-c", f'"$0" -m codesign "$@" {shell}', sys.executable, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)} | environment,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        check=False,
    )


class _Odd(Exception):
    def __str__(self) -> str:
        raise ValueError


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (KeyError("x"), "internal error: KeyError: 'x', in codesign.cli.main:"),
        (ValueError("a\nb\x1b[2J" + "c" * 10**6), "internal error: ValueError: a b\\x1b[2Jccc"),
        (MemoryError(), "out of memory"),
        (RecursionError("maximum recursion depth"), "nested too deeply"),
        (NotImplementedError(), "internal error: NotImplementedError, in"),
        (_Odd(), "internal error: _Odd, in"),
        (RuntimeError("not ours"), "internal error: RuntimeError: not ours"),
        (UnicodeEncodeError("ascii", "\u2500", 0, 1, "no"), "internal error: UnicodeEncodeError"),
        (FileNotFoundError(2, "No such file", "gone"), "codesign: gone: No such file"),
        (typer.BadParameter("\x1b[31m[/]"), "\\x1b[31m[/]"),
    ],
)
def test_any_exception_is_one_line(error: Exception, said: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(**options: Any) -> None:
        raise error

    monkeypatch.setattr(main, "app", broken)
    status, out, err = run()
    assert status == (2 if isinstance(error, typer.BadParameter) else 1)
    assert said in err and not out
    assert err.count("\n") == 1 and err.endswith("\n") and len(err) < LINE + 50 and "\x1b" not in err


def test_an_internal_error_says_where(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from codesign.arch import load

    monkeypatch.setattr(load, "read_text", None)
    status, _, err = run("simulate", "tiny", "smallcnn")
    assert status == 1 and "Traceback" not in err
    assert "TypeError: 'NoneType' object is not callable, in codesign.arch.load:" in err
    monkeypatch.setenv("CODESIGN_TRACEBACK", "1")
    _, _, err = run("simulate", "tiny", "smallcnn")
    assert "Traceback (most recent call last)" in err and err.splitlines()[-1].startswith("codesign: internal error")


def test_visible_text() -> None:
    assert visible("a\x1b]0;title\x07\r\x00\x7f\x9b") == "a\\x1b]0;title\\x07\\x0d\\x00\\x7f\\x9b"
    assert visible("a\u202eb\u2028\udc80\U000e0041") == "a\\u202eb\\u2028\\udc80\\U000e0041"
    assert visible("Grün ─ 图\t\n") == "Grün ─ 图\t\n"
    long = one_line("begin " + "x\x1b" * 10**6 + " end")
    assert len(long) == LINE and long.startswith("begin x\\x1b") and long.endswith(" end") and "2,000,010" in long


MARKUP = "[bold]x[/bold] [/] [link=http://a]b :smile: [red"


def test_markup_and_escapes_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    hostile = f"{MARKUP}\x1b[31m"
    shown = f"{MARKUP}\\x1b[31m"
    output.table(hostile, (hostile, "b"), [(hostile, 1)], (hostile, 2))
    output.facts({hostile: hostile})
    output.line(hostile)
    output.note(hostile)
    with output.progress() as report:
        report(hostile, 0, 1)
    out, err = capsys.readouterr()
    assert out.count(shown) == 7 and err.count(shown) == 2
    assert "\x1b" not in out + err


def test_a_file_with_markup_in_its_name(run: Run, tmp_path: Path) -> None:
    """End to end: of a network, of a layer, of a file."""
    name = "[bold]net[/bold][/][link=x]"
    (tmp_path / f"{name}.csv".replace("/", "-")).write_text(f"Layer, M, N, K,\n{name}\x1b[31m, 4, 8, 16,\n")
    status, out, err = run(
        "simulate",
        "--ideal",
        "4x4",
        "--dataflow",
        "os",
        *tmp_path.glob("*.csv"),
        "--out",
        tmp_path / "[red]" / "out",
        "--json",
        tmp_path / "[blue].json",
    )
    assert status == 0, err
    assert "\x1b" not in out + err and f"{name}\\x1b[31m" in out and "[bold]net[-bold][-][link=x]" in out
    assert "[red]/out" in out.replace("\n", "") and "[blue].json" in err.replace("\n", "")


SIMULATE = ("simulate", "tiny", "smallcnn")


@pytest.mark.parametrize(
    ("shell", "status", "said"),
    [
        (">/dev/full", 1, "codesign: output: No space left on device\n"),
        (">&-", 0, ""),
        ("2>/dev/full --json a.json >/dev/null <&-", 0, ""),
        ("| head -c 1 >/dev/null; exit ${PIPESTATUS[0]}", 0, ""),
        ("--no-such-option 2>/dev/full", 2, ""),
        ("--json /dev/full >/dev/null", 2, "codesign: /dev/full: cannot be written: No space left on device\n"),
    ],
)
def test_streams(shell: str, status: int, said: str, tmp_path: Path) -> None:
    done = command(*SIMULATE, folder=tmp_path, shell=shell)
    assert done.stderr == said
    assert done.returncode == status or ("head" in shell and done.returncode == 1)
    assert Path("/dev/full").is_char_device()


def test_closed_descriptors_are_not_given_to_files(tmp_path: Path) -> None:
    """What is printed must not get into the file that is opened first."""
    done = command(*SIMULATE, "--json", "a.json", folder=tmp_path, shell=">&- 2>&-")
    assert done.returncode == 0
    assert (tmp_path / "a.json").read_text().startswith("{") and (tmp_path / "a.json").read_text().endswith("}\n")


def test_names_that_no_stream_can_show(tmp_path: Path) -> None:
    for encoding in ("ascii", "utf-8"):
        name = os.fsdecode(b"gr\xfcn\xff.csv")
        (tmp_path / name).write_text("Layer, M, N, K,\nsch\u00f6n, 1, 8, 16,\n")
        settings = {"LC_ALL": "C", "PYTHONIOENCODING": encoding, "PYTHONCOERCECLOCALE": "0"}
        done = command("simulate", "tiny", name, folder=tmp_path, **settings)
        assert done.returncode == 0, done.stderr
    done = command("simulate", name, "smallcnn", folder=tmp_path, PYTHONIOENCODING="ascii")
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "gr\\udcfcn\\udcff" in done.stderr


@pytest.mark.parametrize("jobs", ["0", "-1", "x"])
def test_jobs_must_be_a_number(jobs: str, run: Run, tmp_path: Path) -> None:
    status, _, err = run("sweep", "small", "resnet8", "-o", tmp_path / "run", "--jobs", jobs)
    assert status == 2 and err.count("\n") == 1 and "--jobs" in err
    assert not (tmp_path / "run").exists()


def commands() -> dict[str, Callable[..., Any]]:
    from codesign.cli import amed

    listed = [*main.app.registered_commands, *amed.app.registered_commands]
    callbacks = [item.callback for item in listed if item.callback is not None]
    return {f"{item.__module__.rpartition('.')[2]} {item.__name__}": item for item in callbacks}


@pytest.mark.parametrize("name", commands())
def test_every_command_looks_at_its_outputs(name: str) -> None:
    """A new option that names a file must be an output, or one of the inputs listed here."""
    import inspect

    checked = commands()[name]
    assert hasattr(checked, "__wrapped__"), "must be guarded"
    inputs = {"file", "run", "config", "assignment", "data_dir", "checkpoints", "weights"}
    for parameter in inspect.signature(checked, eval_str=True).parameters.values():
        if "Path" in str(parameter.annotation):
            assert parameter.name in OUTPUTS or parameter.name in inputs


def test_inputs_are_no_outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.onnx", "arrays.npz", "arrays.json"):
        Path(name).write_text("precious")
    os.link("a.onnx", "hard.onnx")
    Path("link.onnx").symlink_to("a.onnx")
    Path("data").mkdir()
    Path("data/labels.csv").write_text("precious")
    for source, path in (
        ("a.onnx", "a.onnx"),
        ("a.onnx", "./a.onnx"),
        ("a.onnx", str(tmp_path / "a.onnx")),
        ("a.onnx", "hard.onnx"),
        ("a.onnx", "link.onnx"),
        ("link.onnx", "a.onnx"),
        ("arrays.npz", "arrays.json"),
        ("data", "data/labels.csv"),
    ):
        with pytest.raises(UserError, match="must be another file"):
            check_outputs({"file": source, "out": Path(path)})
        with pytest.raises(UserError, match="must be another file"):
            check_outputs({"networks": ["x", source], "json": Path(path)})
    with pytest.raises(UserError, match="given as --out, too"):
        check_outputs({"out": Path("b"), "json": tmp_path / "b"})
    with pytest.raises(UserError, match="comes with codesign"):
        check_outputs({"json": REPOSITORY / "hw_configs" / "tiny.yaml"})
    check_outputs({"file": "a.onnx", "out": Path("/dev/null"), "json": Path("/dev/null"), "network": "/dev/null"})
    check_outputs({"hw": "tiny", "out": Path("b.onnx"), "json": Path("c.json"), "bits": None, "seed": 0})


def test_import_does_not_overwrite_its_input(run: Run, tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"a model")
    status, _, err = run("import", tmp_path / "x.onnx", "-o", tmp_path / "x.onnx")
    assert status == 2 and "--out: " in err and "is what the command reads" in err
    assert (tmp_path / "x.onnx").read_bytes() == b"a model"
