"""Activation memories, and the way of a stored map to aligned words."""

from __future__ import annotations

import numpy as np
import pytest

from codesign.program.packing import pack_map
from codesign.rtl.activation import ActivationGroup, ActivationMemory, WordAligner
from codesign.rtl.geometry import Geometry
from tests.rtl.bench import IntArray, delayed, geometry, packed, play


def held_codes(enable: IntArray, addr: IntArray, codes: IntArray, depth: int) -> IntArray:
    """What a group holds at the beginning of every cycle: (cycle, address, code). `enable` has a bit per code."""
    held = np.zeros((len(addr) + 1, depth, codes.shape[1]), dtype=np.int64)
    for t in range(len(addr)):
        held[t + 1] = held[t]
        chosen = (enable[t] >> np.arange(codes.shape[1]) & 1).astype(bool)
        held[t + 1, addr[t], chosen] = codes[t, chosen]
    return held[:-1]


def words(codes: IntArray, bits: int) -> IntArray:
    """Codes along the last axis as one number."""
    return (codes << np.arange(codes.shape[-1]) * bits).sum(axis=-1)


@pytest.mark.parametrize(("dot", "act_bits"), [(1, 8), (2, 4), (3, 5)])
def test_group_writes_single_codes_and_reads_in_two_cycles(dot: int, act_bits: int) -> None:
    rng = np.random.default_rng(dot)
    shape = geometry(dot=dot, act_bits=act_bits, activation_words=16)
    cycles = 250
    enable = rng.integers(0, 1 << dot, cycles)
    write_addr, read_addr = rng.integers(0, 16, (2, cycles))
    codes = rng.integers(0, 1 << act_bits, (cycles, dot))
    drive = {"write_en": enable, "write_addr": write_addr, "write_data": words(codes, act_bits), "read_addr": read_addr}
    seen = play(ActivationGroup(shape), drive, ["read_data"], cycles)["read_data"]
    read = held_codes(enable, write_addr, codes, 16)[np.arange(cycles), read_addr]
    assert np.array_equal(seen[2:], words(read, act_bits)[:-2])


def test_memory_addresses_every_group_by_itself() -> None:
    rng = np.random.default_rng(7)
    shape = geometry(columns=3, dot=2, activation_words=16)
    cycles = 200
    enable = rng.integers(0, 4, (cycles, 3))
    write_addr, read_addr = rng.integers(0, 16, (2, cycles, 3))
    codes = rng.integers(0, 16, (cycles, 3, 2))
    drive = {"write_en": enable, "write_addr": write_addr, "write_data": words(codes, 4), "read_addr": read_addr}
    seen = play(ActivationMemory(shape), drive, ["read_data"], cycles)["read_data"]
    for g in range(3):
        held = held_codes(enable[:, g], write_addr[:, g], codes[:, g], 16)
        assert np.array_equal(seen[2:, g], words(held[np.arange(cycles), read_addr[:, g]], 4)[:-2])


@pytest.mark.parametrize(("columns", "dot", "act_bits"), [(1, 1, 8), (2, 4, 4), (5, 1, 3), (7, 2, 2)])
def test_aligner_follows_its_inputs_by_one_cycle(columns: int, dot: int, act_bits: int) -> None:
    rng = np.random.default_rng(columns)
    shape = geometry(columns=columns, dot=dot, act_bits=act_bits)
    cycles = 120
    data = rng.integers(0, 1 << shape.group_bits, (2, cycles, columns))
    source, pad = rng.integers(0, 2, (2, cycles))
    key, pad_code = rng.integers(0, columns, cycles), rng.integers(0, 1 << act_bits, cycles)
    drive = {"data_0": data[0], "data_1": data[1], "source": source, "key": key, "pad": pad, "pad_code": pad_code}
    seen = play(WordAligner(shape), drive, ["word"], cycles)["word"]
    expected = []
    for t in range(cycles):
        logical = np.roll(data[source[t], t], -key[t])  # logical group s lies in physical group s + key
        padding = packed([pad_code[t]] * shape.word_elements, act_bits)
        expected.append(padding if pad[t] else packed(logical, shape.group_bits))
    assert seen.tolist() == delayed(np.array(expected, dtype=object), 1).tolist()


def load_writes(shape: Geometry, codes: IntArray) -> IntArray:
    """The physical groups (word, group) that the LOAD of a map writes."""
    beats = pack_map(codes, shape.act_bits, shape).reshape(-1, shape.beat_bytes)
    numbers = [int.from_bytes(beat.tobytes(), "little") for beat in beats]
    mask = (1 << shape.group_bits) - 1
    groups = [[n >> i * shape.group_bits & mask for i in range(shape.groups_per_beat)] for n in numbers]
    return np.array(groups).reshape(-1, shape.load_beats * shape.groups_per_beat)[:, : shape.columns]


@pytest.mark.parametrize(("columns", "dot", "channels"), [(3, 2, 11), (4, 2, 8), (5, 3, 7)])
def test_a_loaded_map_comes_back_channel_by_channel(columns: int, dot: int, channels: int) -> None:
    """Memory and aligner undo the rotation that the loader's data comes in."""
    rng = np.random.default_rng(channels)
    shape = geometry(columns=columns, dot=dot, act_bits=4, activation_words=64)
    codes = rng.integers(1, 16, (channels, 3, 5))
    stored = load_writes(shape, codes)
    count, per_pixel = len(stored), -(-channels // shape.word_elements)
    addr = np.repeat(np.arange(count)[:, None], columns, axis=1)
    drive = {"write_en": [[(1 << dot) - 1] * columns] * count, "write_addr": addr, "write_data": stored}
    drive["read_addr"] = np.concatenate([np.zeros_like(addr), addr])
    read = play(ActivationMemory(shape), drive, ["read_data"], 2 * count + 2)["read_data"][count + 2 :]

    drive = {"data_0": read, "key": np.arange(count) // per_pixel % columns}
    seen = play(WordAligner(shape), drive, ["word"], count + 1)["word"][1:]
    padded = np.zeros((15, per_pixel * shape.word_elements), dtype=np.int64)
    padded[:, :channels] = codes.reshape(channels, 15).T
    assert seen.tolist() == [packed(word, 4) for word in padded.reshape(count, -1)]
