"""A folder with a compiled network for a board, and images with the results that the board must give.

The driver that `codesign generate` writes reads it (`Compiled`), without codesign on the board.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign._folders import check_folder, entry, write_folder
from codesign.integer.network import IntegerTensor
from codesign.program.program import Program
from codesign.provenance import provenance

MANIFEST = "program.json"
FORMAT = "codesign program"
"""What the manifest says of itself."""
STREAM = "program.bin"


def write_program(
    folder: Path,
    program: Program,
    images: NDArray[np.int64],
    results: Sequence[NDArray[np.int64]],
    facts: dict[str, Any],
) -> dict[str, Any]:
    """Write the memory image, images and their results to `folder`; images as codes, in the order of their axes.

    Args:
        folder: new, empty, or an earlier program's; files of the user's in it stay (`codesign._folders`).
        program: the compiled network. Its image may lie at any address that is a multiple of `burst_bytes`. Where
            several images are computed from one start, the manifest has their count as `batch` and the offsets of the
            pieces of each as `slots`; results lie one behind the other.
        images: codes (N, C, H, W).
        results: their outputs (C, H, W) of the integer model, int32 or codes.
        facts: what else the manifest shall say.

    Returns:
        The manifest, with all offsets in bytes from the beginning of the program.

    Raises:
        UserError: `folder` is somebody else's, a file to replace was changed, or something cannot be written.
    """
    check_program_folder(folder)
    hw = program.hw
    bodies: dict[str, bytes] = {STREAM: program.stream.tobytes()}
    cases: list[dict[str, str]] = []
    for index, (image, result) in enumerate(zip(images, results, strict=True)):
        case = {"input": f"image_{index:04d}.bin", "results": f"results_{index:04d}.bin"}
        bodies[case["input"]] = image.astype(np.uint8).tobytes()
        bodies[case["results"]] = program.encode_results(result).tobytes()
        cases.append(case)
    about: dict[str, Any] = {
        "format": FORMAT,
        "network": program.shape.name,
        "hardware": hw.name,
        "program": STREAM,
        "burst_bytes": program.geometry.block_bytes,
        "memory_bytes": _memory_bytes(program),
        **_slots(program),
        "input": _input(program),
        "output": {
            "shape": list(program.network.output.shape),
            "kind": "int32" if program.network.output.wide else "codes",
            "scale": program.network.output.scale,
            "zero_point": program.network.output.zero_point,
            "offset": program.output_address - program.address,
            "words": program.result_words,
            **_parts(program.network.output, program),
        },
        "host": replace(program.network.host, before=program.network.preparation).to_json()
        | {"shape": list(program.network.image_shape)},
        "words": _words(program),
        "images": cases,
        "files": [entry(name, body) for name, body in bodies.items()],
        **facts,
        **provenance(hw),
    }
    return write_folder(folder, bodies, MANIFEST, about, "compile")


def check_program_folder(folder: Path) -> None:
    """UserError if a program cannot be written there."""
    check_folder(folder, MANIFEST, FORMAT, "compile")


def _memory_bytes(program: Program) -> int:
    """From the beginning of the program to the end of the results; of several ports' last burst, which is scattered."""
    size = program.memory_bytes - program.address
    return size if program.geometry.ports == 1 else size + -size % program.geometry.block_bytes


def _slots(program: Program) -> dict[str, Any]:
    """Where the images of a start lie, if there are several."""
    if program.images == 1:
        return {}
    slots: list[list[int]] = [[] for _ in range(program.images)]
    for piece in program.pieces:
        slots[piece.image].append(piece.beat * program.geometry.beat_bytes)
    return {"batch": program.images, "slots": slots}


def _input(program: Program) -> dict[str, Any]:
    """The image, what the host makes of it (`codesign.program.input_folding`), and where its pieces lie."""
    source, folding, beat = program.network.input, program.folding, program.geometry.beat_bytes
    return {
        "shape": list(source.shape),
        "bits": source.bits,
        "scale": source.scale,
        "zero_point": source.zero_point,
        "fold": folding.fold,
        "kernel_w": folding.kernel_w,
        "stride": list(folding.stride),
        "padding": list(folding.padding),
        "folded_shape": list(folding.folded.shape),
        **_parts(source, program),
        "pieces": [
            {"offset": piece.beat * beat, "rows": list(piece.rows)} for piece in program.pieces if piece.image == 0
        ],
    }


def _parts(tensor: IntegerTensor, program: Program) -> dict[str, int]:
    """In how many places of a group a code lies, or how many in a place, where not one (`codesign.program.packing`)."""
    if tensor.wide:
        return {}
    bits = program.geometry.map_bits(tensor.channels, tensor.bits)
    if program.geometry.is_narrow(bits):
        return {"codes_in_place": 2}
    parts = program.geometry.dot // program.geometry.group_codes(bits)
    return {"parts": parts} if parts > 1 else {}


def _words(program: Program) -> dict[str, int]:
    """How codes lie in the words of a map (`codesign.program.packing.pack_map`)."""
    g = program.geometry
    return {
        "groups": g.groups,
        "dot": g.dot,
        "act_bits": g.act_bits,
        "beat_bytes": g.beat_bytes,
        "groups_per_beat": g.groups_per_beat,
        "load_beats": g.load_beats,
    }
