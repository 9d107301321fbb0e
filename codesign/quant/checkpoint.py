"""The state of a training run in one file that executes nothing when it is loaded: safetensors, with JSON inside.

Training that is interrupted continues from its last whole epoch to the same result: weights, optimizer, rates, the
assignment of formats and every source of random numbers are in the file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from codesign._files import atomic_write, content_hash
from codesign._reading import MIB, MOST_MODEL, excerpt, opened, parse_json, read_bytes
from codesign._sources import source_hash, tool_versions
from codesign.errors import UserError
from codesign.formats.assignment import Assignment
from codesign.quant.qat import QatNetwork, QuantConv

FORMAT = "codesign training"
VERSION = 1
MOST_HEADER = 64 * MIB
"""Bytes of the part of a file that describes its tensors, and holds the facts."""


@dataclass(frozen=True)
class Run:
    """A training run that can be saved and continued.

    Attributes:
        module, optimizer, schedule, generator: what training changes; `generator` orders and augments the images.
        settings: what must be equal in the run that continues.
    """

    module: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    generator: np.random.Generator
    settings: Mapping[str, Any]

    def save(self, path: Path, history: list[dict[str, float]]) -> None:
        """Write the state after as many epochs as `history` has; whole or not at all."""
        tensors = {f"module/{key}": value for key, value in self.module.state_dict().items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{index}/{key}": torch.as_tensor(value) for key, value in state.items()}
        for name, source in _generators(self.module).items():
            tensors[f"generator/{name}"] = source.get_state()
        schedule = {key: value for key, value in self.schedule.state_dict().items() if key != "lr_lambdas"}
        facts = {
            "format": FORMAT,
            "version": VERSION,
            "settings": dict(self.settings),
            "history": history,
            "schedule": schedule,
            "generator": self.generator.bit_generator.state,
            "assignment": self.module.assignment.to_json() if isinstance(self.module, QatNetwork) else None,
            "sources": _sources(),
        }
        tensors = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
        data = save_tensors(tensors, _plain(facts | {"content": _content(facts, tensors)}))
        with atomic_write(path) as file:
            file.write(data)

    def restore(self, path: Path) -> list[dict[str, float]]:
        """Continue from the file, if there is one: the metrics of the epochs that are done.

        A file that was cut short or changed, or that other sources of this package wrote, is as none: training begins
        anew.

        Raises:
            UserError: the file is no training run, or one with other settings; the message names the first of them.
        """
        if not path.exists():
            return []
        if _is_cut(path):
            return []
        facts, tensors = _read(path)
        for key, value in json.loads(json.dumps(dict(self.settings))).items():
            if facts["settings"].get(key) != value:
                raise UserError(
                    f"{path}: is of a run with {key} {excerpt(facts['settings'].get(key), 80)}, this one has {value}; "
                    "remove it or choose another folder"
                )
        content = facts.pop("content", None)
        if facts.get("sources") != _sources() or content != _content(facts, tensors):
            return []
        try:
            if isinstance(self.module, QatNetwork):
                self.module.assignment = Assignment.from_json(facts["assignment"])
            self.module.load_state_dict(_under("module", tensors))
            states: dict[int, dict[str, Tensor]] = {}
            for key, value in _under("optimizer", tensors).items():
                index, _, name = key.partition("/")
                states.setdefault(int(index), {})[name] = value
            whole = self.optimizer.state_dict()
            self.optimizer.load_state_dict({"state": states, "param_groups": whole["param_groups"]})
            for name, source in _generators(self.module).items():
                source.set_state(tensors[f"generator/{name}"])
            self.schedule.load_state_dict(facts["schedule"] | {"lr_lambdas": [None] * len(whole["param_groups"])})
            for group, rate in zip(self.optimizer.param_groups, self.schedule.get_last_lr(), strict=True):
                group["lr"] = rate
            self.generator.bit_generator.state = facts["generator"]
            return [{str(key): float(value) for key, value in epoch.items()} for epoch in facts["history"]]
        # torch and numpy raise what they stumble over
        except (LookupError, TypeError, ValueError, RuntimeError, AttributeError, ArithmeticError, UserError) as error:
            raise UserError(f"{path}: does not fit this network ({excerpt(error)})") from None


def save_state(state: Mapping[str, Tensor], path: Path) -> None:
    """Write weights alone."""
    with atomic_write(path) as file:
        file.write(save_tensors({key: value.detach().cpu().contiguous() for key, value in state.items()}))


def load_state(path: Path) -> dict[str, Tensor]:
    """Weights that `save_state`, or any other tool, wrote as safetensors; UserError with one line if it cannot be."""
    return _load(path)[1]


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    text, tensors = _load(path)
    try:
        facts: dict[str, Any] = parse_json(text["codesign"])
        if facts["format"] != FORMAT or facts["version"] != VERSION:
            raise UserError(f"{path}: not a training run that this codesign reads")
        if not isinstance(facts["settings"], dict) or not isinstance(facts["history"], list):
            raise ValueError
    except (LookupError, ValueError, TypeError):
        raise UserError(f"{path}: not a training run that codesign wrote") from None
    return facts, tensors


def _load(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        data = read_bytes(path, MOST_MODEL)
        length = int.from_bytes(data[:8], "little")
        if length > MOST_HEADER:
            raise ValueError(f"a header of {length:,} bytes")
        tensors = load_tensors(data)
        metadata: dict[str, str] = parse_json(data[8 : 8 + length]).get("__metadata__", {})
        wrong = [name for name, value in tensors.items() if value.is_floating_point() and not value.isfinite().all()]
        if wrong:
            raise ValueError(f"'{excerpt(wrong[0], 80)}' holds numbers that are NaN or infinite")
    # torch and safetensors raise what they stumble over
    except (SafetensorError, LookupError, TypeError, ValueError, AttributeError, RuntimeError, OverflowError) as error:
        raise UserError(f"{path}: damaged or cut short, or no safetensors ({excerpt(error)})") from None
    return metadata, tensors


@lru_cache(maxsize=1)
def _sources() -> str:
    """Of what trains: a run that others began is not continued."""
    return content_hash(source_hash("codesign.quant.pipeline"), tool_versions("numpy", "torch"))


def _content(facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Hash of everything in a file."""
    parts: list[str | bytes] = [json.dumps(facts, sort_keys=True)]
    for key, value in sorted(tensors.items()):
        array = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        parts += [key, str(value.dtype), array.numpy().tobytes()]
    return content_hash(*parts)


def _is_cut(path: Path) -> bool:
    """Whether the file is empty, or the beginning of a longer one that this module wrote."""
    with opened(path, MOST_MODEL) as file:
        data = file.read(8)
        length = int.from_bytes(data, "little")
        if len(data) < 8 or not any(data):
            return not any(data)
        if length > MOST_HEADER:
            return False
        header = file.read(min(length, path.stat().st_size))
    if len(header) < length:
        return FORMAT.encode() in header
    try:
        described = parse_json(header)
        ends = [item["data_offsets"][1] for name, item in described.items() if name != "__metadata__"]
        ours = FORMAT in described["__metadata__"]["codesign"]
        return ours and path.stat().st_size < 8 + length + max(ends, default=0)
    except (ValueError, LookupError, TypeError, AttributeError):
        return False


def _plain(facts: Mapping[str, Any]) -> dict[str, str]:
    return {"codesign": json.dumps(facts)}


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(f"{prefix}/"): value for key, value in tensors.items() if key.startswith(f"{prefix}/")}


def _generators(module: nn.Module) -> dict[str, torch.Generator]:
    return {name: part.generator for name, part in module.named_modules() if isinstance(part, QuantConv)}
