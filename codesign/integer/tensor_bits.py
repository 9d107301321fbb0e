"""Bits of the stored tensors of a fused network, as an assignment says them, and what ties them to each other."""

from __future__ import annotations

from collections.abc import Iterable

from codesign.errors import UserError
from codesign.formats.assignment import Assignment
from codesign.integer.fusing import FusedConv, FusedNetwork, FusedPool
from codesign.integer.network import WIDE_BITS


def tensor_bits(network: FusedNetwork, assignment: Assignment) -> dict[str, int]:
    """Bits of every tensor of `network`, the input first; wide results have `WIDE_BITS`.

    A max pooling hands its input's codes on, so its output has the bits of its input: it may be named with these, or
    left out. A residual operand is brought to the sum's scale with its own factor, so its bits are free; so are those
    of a tensor that several passes read, since it is stored once.

    Raises:
        UserError: the assignment names a tensor that is not stored, results with other bits than they have, or a max
            pooling with other bits than its input.
    """
    known = network.tensors
    for name in assignment.tensors:
        if name not in known:
            raise UserError(
                f"assignment: tensor '{name}' is not stored by network '{network.name}'; it stores {_listed(known)}"
            )
    bits = {network.input.name: assignment.bits(network.input.name)}
    for item in network.passes:
        name = item.output.name
        if isinstance(item, FusedConv) and item.wide:
            if assignment.tensors.get(name, WIDE_BITS) != WIDE_BITS:
                raise UserError(
                    f"assignment: tensor '{name}' has {assignment.tensors[name]} bits, but results of '{network.name}' "
                    f"have {WIDE_BITS}: leave it out"
                )
            bits[name] = WIDE_BITS
        elif isinstance(item, FusedPool) and item.kind == "max":
            bits[name] = bits[item.input]
            if assignment.tensors.get(name, bits[name]) != bits[name]:
                raise UserError(
                    f"assignment: tensor '{name}' has {assignment.tensors[name]} bits, but a max pooling has those of "
                    f"its input '{item.input}', {bits[name]}: give both the same"
                )
        else:
            bits[name] = assignment.bits(name)
    return bits


def _listed(names: Iterable[str]) -> str:
    text = ", ".join(names)
    return text if len(text) <= 300 else text[:300] + ", ..."
