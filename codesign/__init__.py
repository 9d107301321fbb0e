"""Hardware/software co-design of quantized neural networks: one tool for the accelerator and the model on it.

    import codesign

    hw = codesign.load_hardware("xc7z020")
    print(codesign.simulate(hw, "resnet8"))

What is here is loaded when it is first used; importing the package imports nothing else. Every job gives a frozen
answer that prints as tables, shows as HTML in notebooks, and whose `to_json` is what the command line writes.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType

TYPE_CHECKING = False  # `typing` alone would take most of the time of the import

__version__ = "0.1.0"

_HOMES = {
    "Allocated": "api.allocating",
    "AllocationTable": "allocation.table",
    "Assignment": "formats.assignment",
    "BitsTable": "api.bits_table",
    "Compared": "api.comparing",
    "Compiled": "api.board",
    "CoSearched": "api.cosearched",
    "Cosimulation": "api.cosimulation",
    "Dataset": "data.dataset",
    "EncoderCosimulation": "api.encoders",
    "EncoderSimulation": "api.encoders",
    "Evaluation": "api.evaluation",
    "Exported": "api.files",
    "Generated": "api.board",
    "Hardware": "arch.hardware",
    "IdealSimulation": "api.ideal",
    "Imported": "api.files",
    "Kit": "api.kit",
    "Quantization": "api.quantization",
    "Reading": "api.reading",
    "Reported": "api.searching",
    "Roofline": "api.roofline",
    "Searched": "api.searching",
    "Shown": "api.cosearch_runs",
    "Simulation": "api.simulation",
    "Solved": "api.solving",
    "Swept": "api.sweeping",
    "Synthesis": "api.synthesis",
    "Tabulated": "api.tabulating",
    "UserError": "errors",
    "bits_table": "api.bits_table",
    "allocate": "api.allocating",
    "compare": "api.comparing",
    "compile": "api.board",
    "cosearch": "api.cosearching",
    "cosim": "api.cosimulation",
    "cosim_encoder": "api.encoders",
    "evaluate": "api.evaluation",
    "export_kit": "api.kit",
    "export_network": "api.files",
    "export_point": "api.cosearch_runs",
    "generate": "api.board",
    "import_network": "api.files",
    "load_dataset": "api.datasets",
    "load_hardware": "arch.load",
    "load_network": "api.networks",
    "methods": "api.allocating",
    "quantize": "api.quantization",
    "report": "api.searching",
    "roofline": "api.roofline",
    "search": "api.searching",
    "show": "api.cosearch_runs",
    "simulate": "api.simulation",
    "simulate_encoder": "api.encoders",
    "simulate_ideal_array": "api.ideal",
    "solve": "api.solving",
    "sweep": "api.sweeping",
    "table": "api.tabulating",
    "synthesize": "api.synthesis",
}
"""Modules of the names that are handed on, which are all public ones."""
_CALLED_OTHERWISE = {"AllocationTable": "Table", "compile": "compile_for_board"}
"""In those modules, where Python has a function of its own of that name."""

if TYPE_CHECKING:
    from typing import Any

    from codesign.allocation.table import Table as AllocationTable  # noqa: F401  not the tables that answers print
    from codesign.api.allocating import Allocated as Allocated
    from codesign.api.allocating import allocate as allocate
    from codesign.api.allocating import methods as methods
    from codesign.api.bits_table import BitsTable as BitsTable
    from codesign.api.bits_table import bits_table as bits_table
    from codesign.api.board import Compiled as Compiled
    from codesign.api.board import Generated as Generated
    from codesign.api.board import compile_for_board as compile  # noqa: A004, F401  as `re` has one
    from codesign.api.board import generate as generate
    from codesign.api.comparing import Compared as Compared
    from codesign.api.comparing import compare as compare
    from codesign.api.cosearch_runs import Shown as Shown
    from codesign.api.cosearch_runs import export_point as export_point
    from codesign.api.cosearch_runs import show as show
    from codesign.api.cosearched import CoSearched as CoSearched
    from codesign.api.cosearching import cosearch as cosearch
    from codesign.api.cosimulation import Cosimulation as Cosimulation
    from codesign.api.cosimulation import cosim as cosim
    from codesign.api.datasets import load_dataset as load_dataset
    from codesign.api.encoders import EncoderCosimulation as EncoderCosimulation
    from codesign.api.encoders import EncoderSimulation as EncoderSimulation
    from codesign.api.encoders import cosim_encoder as cosim_encoder
    from codesign.api.encoders import simulate_encoder as simulate_encoder
    from codesign.api.evaluation import Evaluation as Evaluation
    from codesign.api.evaluation import evaluate as evaluate
    from codesign.api.files import Exported as Exported
    from codesign.api.files import Imported as Imported
    from codesign.api.files import export_network as export_network
    from codesign.api.files import import_network as import_network
    from codesign.api.ideal import IdealSimulation as IdealSimulation
    from codesign.api.ideal import simulate_ideal_array as simulate_ideal_array
    from codesign.api.kit import Kit as Kit
    from codesign.api.kit import export_kit as export_kit
    from codesign.api.networks import load_network as load_network
    from codesign.api.quantization import Quantization as Quantization
    from codesign.api.quantization import quantize as quantize
    from codesign.api.reading import Reading as Reading
    from codesign.api.roofline import Roofline as Roofline
    from codesign.api.roofline import roofline as roofline
    from codesign.api.searching import Reported as Reported
    from codesign.api.searching import Searched as Searched
    from codesign.api.searching import report as report
    from codesign.api.searching import search as search
    from codesign.api.simulation import Simulation as Simulation
    from codesign.api.simulation import simulate as simulate
    from codesign.api.solving import Solved as Solved
    from codesign.api.solving import solve as solve
    from codesign.api.sweeping import Swept as Swept
    from codesign.api.sweeping import sweep as sweep
    from codesign.api.synthesis import Synthesis as Synthesis
    from codesign.api.synthesis import synthesize as synthesize
    from codesign.api.tabulating import Tabulated as Tabulated
    from codesign.api.tabulating import table as table
    from codesign.arch.hardware import Hardware as Hardware
    from codesign.arch.load import load_hardware as load_hardware
    from codesign.data.dataset import Dataset as Dataset
    from codesign.errors import UserError as UserError
    from codesign.formats.assignment import Assignment as Assignment

__all__ = sorted([*_HOMES, "__version__"])


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'codesign' has no attribute '{name}'")
    if name in _ROOMS:
        return import_module(f"codesign.{name}")
    value = globals()[name] = _job(name)
    return value


def __dir__() -> list[str]:
    return __all__


def _job(name: str) -> Any:
    return getattr(import_module(f"codesign.{_HOMES[name]}"), _CALLED_OTHERWISE.get(name, name))


_ROOMS = frozenset({"report", "search"})
"""Jobs that share their name with a room of the package: the room does the job when it is called."""


class _Room(ModuleType):
    """A package that is a job, too."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return _job(self.__name__.rpartition(".")[2])(*args, **kwargs)

    @property
    def __wrapped__(self) -> Any:
        """The job, whose signature and documentation `inspect` and notebooks show."""
        return _job(self.__name__.rpartition(".")[2])


class _Package(ModuleType):
    """The package. A room is set on it when it has been imported, whoever imports it first."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _ROOMS and isinstance(value, ModuleType):
            value.__class__ = _Room
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
