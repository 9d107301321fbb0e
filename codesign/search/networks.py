"""The quantized networks of a search: trained once for each ratio of formats, and kept in its folder."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign._files import atomic_write, content_hash
from codesign._reading import MOST_MODEL, read_arrays
from codesign._sources import source_hash, tool_versions
from codesign.arch.hardware import Hardware
from codesign.data.sources import Dataset, data_hash, load_dataset
from codesign.errors import UserError
from codesign.execution.executor import Executor, InProcess, Report
from codesign.execution.store import RunFolder
from codesign.formats.ratio import Ratio
from codesign.integer.network import IntegerNetwork
from codesign.integer.storage import load_network, save_network
from codesign.search.space import Space, band_ratio, zoo_network

State = Mapping[str, NDArray[Any]]
"""Weights by the network's names."""
_GIVEN = ("codesign.rtl", "codesign.sim.synthesis.resource_levels", "codesign.search.space", "codesign.sim")
"""Not followed for the key of a network: of hardware and space it depends by ratio, bits and numbers of epochs."""


class Networks:
    """Networks by the ratio of the bands they are for."""

    def __init__(self, space: Space, kept: RunFolder, data_dir: Path | None, report: Report) -> None:
        self._space, self._kept, self._data_dir, self._report = space, kept, data_dir, report
        self._dataset: Dataset | None = None
        self._data: str | None = None
        self._sources = source_hash(__name__, given=_GIVEN)

    def key(self, hw: Hardware) -> str:
        """Of everything that the network for `hw` depends on."""
        ratio = [f"{form}:{share:.9f}" for form, share in band_ratio(hw).items()]
        return content_hash(self._float_key(), *ratio, str(hw.act_bits), str(self._space.epochs))

    def train(self, hardware: Iterable[Hardware], executor: Executor) -> None:
        """Train and keep the networks for `hardware` that are not kept yet; nothing here looks at test images.

        The first one trains the float network, too, from which the others start: they may run at the same time.
        """
        missing: dict[str, Hardware] = {}
        for hw in hardware:
            if self._name(hw) not in missing and self._kept.file(self._path(hw), self.key(hw)) is None:
                missing[self._name(hw)] = hw
        waiting = [*missing.values()]
        while waiting:
            state = self._float_state()
            begun, waiting = (waiting[:1], waiting[1:]) if state is None else (waiting, [])
            jobs = [partial(_trained, self._space, self.dataset, band_ratio(hw), hw.act_bits, state) for hw in begun]
            with contextlib.closing(executor.map(jobs, self._report)) as outcomes:
                for outcome in outcomes:
                    network, found = outcome.result()
                    if state is None:
                        self._keep_float_state(found)
                    self._keep(begun[outcome.index], network)

    def of(self, hw: Hardware) -> IntegerNetwork:
        """The network quantized in the ratio of the bands of `hw`; trained if it is not kept."""
        return load_network(self.file(hw))

    def file(self, hw: Hardware) -> Path:
        """Where that network is kept; trained if it is not."""
        if (path := self._kept.file(self._path(hw), self.key(hw))) is None:
            self.train([hw], InProcess())
            path = self._kept.folder / self._path(hw)
        return path

    def tested(self, hw: Hardware) -> dict[str, Any]:
        """`test_accuracy` of the network for `hw` and the number of `test_images`; for what has been chosen."""
        name, key = f"tested/{self._name(hw)}.json", self.key(hw)
        if (stored := self._kept.get(name, key, dict)) is not None:
            return stored
        from codesign.quant.pipeline import integer_classes

        data, network = self.dataset, self.of(hw)
        right = integer_classes(network, data.test_images) == data.test_labels
        answer = {"test_accuracy": float(np.mean(right)), "test_images": len(right)}
        self._kept.put(name, key, answer)
        return answer

    @property
    def dataset(self) -> Dataset:
        """The data set, read once."""
        if self._dataset is None:
            self._dataset = load_dataset(self._space.data, self._data_dir, self._space.seed)
        return self._dataset

    @property
    def data_key(self) -> str:
        """Of the content of the data set; what the folder says where its files are not there any more."""
        if self._data is None:
            name = "data.json"
            try:
                self._data = data_hash(self._space.data, self._data_dir)
            except UserError:
                self._data = self._kept.get(name, self._space.data, str) or "missing"
            else:
                if self._kept.get(name, self._space.data, str) != self._data:
                    self._kept.put(name, self._space.data, self._data)
        return self._data

    def _keep(self, hw: Hardware, network: IntegerNetwork) -> None:
        path = self._kept.folder / self._path(hw)
        path.parent.mkdir(parents=True, exist_ok=True)
        save_network(network, path)
        self._kept.keep_file(self._path(hw), self.key(hw))

    def _path(self, hw: Hardware) -> str:
        return f"networks/{self._name(hw)}.codesign"

    def _name(self, hw: Hardware) -> str:
        ratio = band_ratio(hw)
        return content_hash(*(f"{form}:{share:.9f}" for form, share in ratio.items()), str(hw.act_bits))

    def _float_key(self) -> str:
        space, tools = self._space, tool_versions("numpy", "scikit-learn", "torch")
        network = json.dumps(zoo_network(space.network).to_json(), sort_keys=True)
        return content_hash(self._sources, tools, network, self.data_key, str(space.float_epochs), str(space.seed))

    def _float_state(self) -> State | None:
        path = self._kept.file("float.npz", self._float_key())
        return None if path is None else read_arrays(path, MOST_MODEL, "the weights of a search")

    def _keep_float_state(self, state: State) -> None:
        buffer = io.BytesIO()
        arrays: dict[str, Any] = dict(state)
        np.savez(buffer, **arrays)
        with atomic_write(self._kept.folder / "float.npz") as file:
            file.write(buffer.getvalue())
        self._kept.keep_file("float.npz", self._float_key())


def _trained(
    space: Space, dataset: Dataset, ratio: Ratio, act_bits: int, state: State | None, report: Report
) -> tuple[IntegerNetwork, State]:
    """The network in a ratio of formats and the float network's weights; these are trained, too, if none are given."""
    import torch

    from codesign.quant.options import FloatOptions, FormatOptions, QuantizeOptions, RunOptions, TrainingOptions
    from codesign.quant.pipeline import quantize

    options = QuantizeOptions(
        FormatOptions("rmsmp", ratio, act_bits),
        FloatOptions(space.float_epochs),
        training=TrainingOptions(space.epochs),
    )
    result = quantize(
        zoo_network(space.network),
        dataset,
        options,
        float_state=None if state is None else {name: torch.from_numpy(value) for name, value in state.items()},
        run=RunOptions(space.seed, report),
    )
    return result.integer_network, {name: value.numpy() for name, value in result.float_state.items()}
