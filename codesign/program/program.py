"""The program of one network on one accelerator: its plan, and what lies in memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codesign.program.input_folding import InputFolding
from codesign.program.packing import pack_map
from codesign.program.plan import Plan
from codesign.quant.integer_network import IntegerNetwork


@dataclass(frozen=True)
class InputPiece:
    """Rows of the (folded) input map inside the stream, from beat `beat` on."""

    beat: int
    rows: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Program(Plan):
    """A compiled network.

    Attributes:
        network: the network that was compiled, as given.
        stream: the memory image from `address` on, as bytes; the input pieces lie inside it.
        folding: how the host lays the image out.
        output_address: byte address of the int32 results, one per class.
    """

    network: IntegerNetwork
    stream: NDArray[np.uint8]
    address: int
    folding: InputFolding
    pieces: tuple[InputPiece, ...]
    output_address: int

    @property
    def memory_bytes(self) -> int:
        """Bytes of memory from address 0 to the end of the results."""
        return self.output_address + 4 * self.network.output.channels

    def encode_input(self, codes: NDArray[np.int64]) -> tuple[NDArray[np.uint8], ...]:
        """The bytes of every input piece for an image (C, H, W) of codes."""
        folded = self.folding.apply(codes)
        return tuple(pack_map(folded[:, piece.rows[0] : piece.rows[1]], self.geometry) for piece in self.pieces)
