"""The program of one network on one accelerator: its plan, and what lies in memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codesign.integer.network import IntegerNetwork, IntegerTensor
from codesign.program.input_folding import InputFolding
from codesign.program.packing import pack_map, unpack_map
from codesign.program.plan import Plan, result_words


@dataclass(frozen=True)
class InputPiece:
    """Rows of the (folded) input map of an image inside the stream, from beat `beat` on."""

    beat: int
    rows: tuple[int, int]
    image: int = 0


@dataclass(frozen=True, eq=False)
class Program(Plan):
    """A compiled network.

    Attributes:
        network: the network that was compiled, as given.
        stream: the memory image from `address` on, as bytes; the input pieces lie inside it.
        folding: how the host lays an image out.
        pieces: of all images of a start, in their order; every image has the same rows.
        output_address: byte address of the results: int32, one per class, or the activation words of a map of codes;
            those of the images one behind the other.
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
        return self.output_address + 4 * self.result_words * self.images

    @property
    def result_words(self) -> int:
        """32-bit words of the results of an image."""
        return result_words(self)

    @property
    def rows(self) -> tuple[tuple[int, int], ...]:
        """Rows of the pieces of an image."""
        return tuple(piece.rows for piece in self.pieces if piece.image == 0)

    def _bits_of(self, tensor: IntegerTensor) -> int:
        """Bits with which a map is stored."""
        return self.geometry.map_bits(tensor.channels, tensor.bits)

    def decode_results(self, words: NDArray[np.int64]) -> NDArray[np.int64]:
        """The network's output (C, H, W), int32 results or codes, from the unsigned 32-bit words that hold it."""
        shape = self.network.output.shape
        if self.network.output.wide:
            return np.where(words >= 1 << 31, words - (1 << 32), words).reshape(shape)
        return unpack_map(words.astype("<u4").view(np.uint8), shape, self._bits_of(self.network.output), self.geometry)

    def encode_results(self, output: NDArray[np.int64]) -> NDArray[np.int32]:
        """The 32-bit words that hold an output (C, H, W): the inverse of `decode_results`."""
        if self.network.output.wide:
            return output.reshape(-1).astype("<i4")
        return pack_map(output, self._bits_of(self.network.output), self.geometry).view("<i4")

    def encode_input(self, codes: NDArray[np.int64]) -> tuple[NDArray[np.uint8], ...]:
        """The bytes of every input piece for an image (C, H, W) of codes."""
        folded, bits = self.folding.apply(codes), self._bits_of(self.network.input)
        return tuple(pack_map(folded[:, begin:end], bits, self.geometry) for begin, end in self.rows)
