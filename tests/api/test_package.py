"""What `import codesign` gives, and what it costs."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import codesign


def test_importing_the_package_imports_nothing_else() -> None:
    heavy = {"torch", "amaranth", "numpy", "pydantic", "rich", "typing"}
    code = (
        f"import sys; before = set(sys.modules); import codesign; print(sorted({heavy} & (set(sys.modules) - before)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_every_public_name_is_there() -> None:
    assert dir(codesign) == codesign.__all__ == sorted(codesign.__all__)
    for name in codesign.__all__:
        assert getattr(codesign, name) is not None, name
    with pytest.raises(AttributeError, match="module 'codesign' has no attribute 'simulat'"):
        codesign.simulat  # noqa: B018


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(codesign.__file__).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    twins = {
        alias.asname: (node.module, alias.name)
        for node in block.body
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("codesign.")
        for alias in node.names
    }
    homes = {
        name: (f"codesign.{module}", codesign._CALLED_OTHERWISE.get(name, name))
        for name, module in codesign._HOMES.items()
    }
    assert twins == homes
    assert Path(codesign.__file__).with_name("py.typed").is_file()


def test_jobs_are_documented_and_typed() -> None:
    for name in codesign.__all__:
        job = getattr(codesign, name)
        if name[0].islower() and not name.startswith("_"):
            signature = inspect.signature(job)
            assert signature.return_annotation is not inspect.Signature.empty, name
            assert inspect.getdoc(job), name


@pytest.mark.parametrize("order", ["import codesign.search.loop", "codesign.search"])
def test_a_room_with_the_name_of_a_job_does_it(order: str, tmp_path: Path) -> None:
    """Whoever comes first, the import of a file in the room or the use of the job."""
    code = (
        f"import codesign; {order}; import codesign.search.space as file; from codesign.search.loop import Search\n"
        "try:\n    codesign.search('no-such-space', 'run')\nexcept codesign.UserError as error:\n    print(error)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert run.stdout.startswith("no-such-space: no such configuration")
    assert list(inspect.signature(codesign.report).parameters) == ["run", "out", "progress"]
