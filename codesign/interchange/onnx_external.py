"""Weights that lie in files beside an ONNX model: of its own folder, regular, and no longer than the model says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from codesign._reading import MOST_MODEL, excerpt, opened
from codesign.errors import UserError


def load_external(model: Any, folder: Path) -> None:
    """Put the tensors of a model's files into it.

    Args:
        model: an `onnx.ModelProto`.
        folder: where it lies.

    Raises:
        UserError: a tensor is said to lie elsewhere, or its file is missing, no file, or too short.
    """
    left = MOST_MODEL
    for tensor in _tensors(model.graph):
        if tensor.data_location != 1:  # TensorProto.EXTERNAL
            continue
        where = f"initializer '{excerpt(tensor.name, 80)}'"
        said = {item.key: item.value for item in tensor.external_data}
        location = said.get("location", "")
        if not location or Path(location).name != location:
            raise UserError(f"{where}: its data lie in '{excerpt(location, 80)}', must be in a file beside the model")
        try:
            offset, length = int(said.get("offset", "0")), int(said.get("length", "-1"))
            if "length" not in said:
                length = max(0, (folder / location).stat().st_size - offset)
        except (OSError, ValueError):
            raise UserError(f"{where}: its data have no offset and length in '{excerpt(location, 80)}'") from None
        left -= length
        if offset < 0 or length < 0 or left < 0:
            raise UserError(f"{where}: {length:,} bytes from {offset:,} on, must be at most {MOST_MODEL:,} in all")
        try:
            with opened(folder / location, 2 * MOST_MODEL) as file:
                file.seek(offset)
                data = file.read(length)
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
        if len(data) < length:
            raise UserError(f"{where}: '{excerpt(location, 80)}' ends before its {length:,} bytes from {offset:,} on")
        tensor.raw_data = data
        tensor.data_location = 0
        del tensor.external_data[:]


def _tensors(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield attribute.t
            yield from attribute.tensors
