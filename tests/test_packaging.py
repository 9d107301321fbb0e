"""What is imported is declared, and what an extra brings is asked for only by what needs it."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import codesign
from codesign._extras import EXTRAS, require
from codesign.errors import UserError

PACKAGE = Path(codesign.__file__).parent
PROJECT = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]
FOR_TESTS = {"ai_edge_litert", "onnxruntime", "qonnx"}
"""Oracles of other tools, which only tests call."""


def distributions(requirements: list[str]) -> set[str]:
    names = {re.split(r"[\[<>=~! ]", item)[0].lower().replace("_", "-") for item in requirements}
    return names - {PROJECT["name"]}


def imported() -> dict[str, set[str]]:
    """Files by the package of others that they import."""
    found: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            for name in {name.partition(".")[0] for name in names} - {"codesign"} - sys.stdlib_module_names:
                found.setdefault(name, set()).add(path.relative_to(PACKAGE).as_posix())
    return found


def test_every_imported_package_is_declared() -> None:
    brought = packages_distributions()
    base = distributions(PROJECT["dependencies"])
    extras = PROJECT["optional-dependencies"]
    packages = imported()
    assert {"numpy", "scipy", "torch"} <= packages.keys()
    for package, files in packages.items():
        if package == "pydantic_core" or package == "cocotb_tools":  # parts of pydantic and of cocotb
            continue
        extra = EXTRAS.get(package, "interchange" if package == "google" else "interchange-tests")
        names = {name.lower().replace("_", "-") for name in brought[package]}
        declared = base if package not in EXTRAS.keys() | FOR_TESTS | {"google"} else distributions(extras[extra])
        assert names & declared, f"{package}, imported by {min(files)}, is not declared"


def test_everything_declared_is_imported() -> None:
    brought = packages_distributions()
    used = {name.lower().replace("_", "-") for package in imported() for name in brought.get(package, ())}
    # amaranth writes Verilog by Yosys's build for it; what is run as a program is not imported
    assert distributions(PROJECT["dependencies"]) - used <= {"amaranth"}


def test_setup_installs_every_extra() -> None:
    makefile = (PACKAGE.parent / "Makefile").read_text()
    (listed,) = re.findall(r"--editable '\.\[(.*)\]'", makefile)
    assert set(listed.split(",")) == set(PROJECT["optional-dependencies"])


def test_a_missing_package_is_said_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for package, extra in EXTRAS.items():
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(UserError, match=rf"this needs the package .*: pip install 'codesign\[{extra}\]'"):
            require(package, "this")


BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "safetensors"):
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)

sys.meta_path.insert(0, Blocked())
import codesign, json
small = "smallcnn:size=8,width=4"
codesign.generate("tiny", "made")
codesign.compile("tiny", small, "program")
cycles = codesign.simulate("tiny", small).total_cycles
float_cycles = codesign.simulate("tiny", sys.argv[1]).total_cycles
exact = codesign.cosim("tiny", small).exact
said = []
for job in (
    lambda: codesign.search("digits", "run"),
    lambda: codesign.load_network(sys.argv[1]),
    lambda: codesign.simulate("tiny", "model.pt2"),
):
    try:
        job()
    except codesign.UserError as error:
        said.append(str(error))
print(json.dumps([cycles, float_cycles, exact, "torch" in sys.modules, said]))
"""


def test_torch_is_needed_only_by_what_trains(tmp_path: Path) -> None:
    (tmp_path / "model.pt2").write_bytes(b"PK")
    run = subprocess.run(
        [sys.executable, "-c", BLOCKED, _float_model(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(PACKAGE.parent)},
    )
    assert run.returncode == 0, run.stderr
    cycles, float_cycles, exact, has_torch, said = json.loads(run.stdout)
    assert cycles > 0 and float_cycles > 0 and exact is True and has_torch is False
    assert len(said) == 3 and all("needs the package torch: pip install 'codesign[train]'" in text for text in said)


def _float_model(folder: Path) -> str:
    """A fully connected layer as an ONNX file."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weight = numpy_helper.from_array(np.ones((10, 64), dtype=np.float32), "w")
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("Gemm", ["f", "w"], ["y"], transB=1)]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", (1, 1, 8, 8)), ("y", (1, 10)))
    ]
    graph = helper.make_graph(nodes, "float", ends[:1], ends[1:], [weight])
    path = folder / "float.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return str(path)
