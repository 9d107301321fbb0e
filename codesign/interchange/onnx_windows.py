"""Windows that convolutions and poolings slide over a map: kernel, stride and padding as ONNX's attributes say them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from codesign.interchange.onnx_graph import Node
from codesign.workload.layers import NO_PADDING, Padding, Pair

MODES = ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")


@dataclass(frozen=True)
class Window:
    """A window: (vertical, horizontal) sizes, padding (top, bottom, left, right), and how many positions it has."""

    kernel: Pair
    stride: Pair
    padding: Padding
    output: Pair

    @property
    def padded(self) -> bool:
        """Whether it reaches beyond the map."""
        return self.padding != NO_PADDING


def read_window(node: Node, size: Sequence[int], kernel: Sequence[int] | None = None) -> Window:
    """The window of a Conv, MaxPool or AveragePool on a map of `size`, its own padding included.

    Args:
        node: the operator; its attributes are checked.
        size: (height, width) of what it reads, with the zeros of a Pad before it.
        kernel: of a Conv's weights.

    Raises:
        UserError: the window is damaged, does not fit, or is one that no accelerator slides.
    """
    given = node.integers("kernel_shape", tuple(kernel or ()))
    stride, pads = node.integers("strides", (1, 1)), node.integers("pads", (0, 0, 0, 0))
    dilations = node.integers("dilations", (1, 1))
    if {len(given), len(stride), len(dilations), len(size)} != {2} or len(pads) != 4:
        raise node.error("only 2-D windows are supported")
    if kernel is not None and tuple(kernel) != given:
        raise node.error(f"has kernel_shape {given}, but weights of {tuple(kernel)}")
    if min(given) < 1 or min(stride) < 1 or min(dilations) < 1 or min(pads) < 0:
        raise node.error(f"has kernel {given}, strides {stride}, dilations {dilations}, pads {pads}; no such window")
    if any(step != 1 and length != 1 for step, length in zip(dilations, given, strict=True)):
        raise node.error("dilation is not supported; what would replace it: a larger kernel with zeros")
    if any(step != 1 for step in dilations) and node.attributes.get("auto_pad", b"NOTSET").startswith(b"SAME"):
        raise node.error("has dilations beside auto_pad; no runtime takes both")
    sides = _padding(node, size, given, stride, pads)
    if node.op != "Conv" and any(max(sides[i]) >= given[i] for i in (0, 1)):
        raise node.error(f"pads {sides} do not stay below its kernel {given}")
    output = []
    for axis in (0, 1):
        room = size[axis] + sum(sides[axis]) - given[axis]
        if room < 0:
            raise node.error(f"its kernel {given} does not fit into {size[0]}x{size[1]} padded by {sides}")
        if node.attributes.get("ceil_mode", 0) and room % stride[axis]:
            sides[axis] = _ceiling(node, size[axis], sides[axis], given[axis], stride[axis])
            room = size[axis] + sum(sides[axis]) - given[axis]
        output.append(room // stride[axis] + 1)
    (top, bottom), (left, right) = sides
    return Window((given[0], given[1]), (stride[0], stride[1]), (top, bottom, left, right), (output[0], output[1]))


def _padding(
    node: Node, size: Sequence[int], kernel: Sequence[int], stride: Sequence[int], pads: Sequence[int]
) -> list[tuple[int, int]]:
    """(before, after) of height and width."""
    mode = node.attributes.get("auto_pad", b"NOTSET").decode("ascii", "replace")
    if mode not in MODES:
        raise node.error(f"has auto_pad={mode}; supported are {', '.join(MODES)}")
    if mode == "NOTSET":
        return [(pads[0], pads[2]), (pads[1], pads[3])]
    if any(pads):
        raise node.error(f"has pads {tuple(pads)} beside auto_pad={mode}; only one of them can hold")
    sides = []
    for length, window, step in zip(size, kernel, stride, strict=True):
        total = (-(-length // step) - 1) * step + window - length if mode != "VALID" else 0
        if mode != "VALID" and total < (-1 if node.op == "Conv" else 0):
            # Runtimes disagree whether such windows start at the map's edge, or refuse them.
            raise node.error(f"has auto_pad={mode} with a kernel of {window} and a stride of {step}; use pads")
        first = max(total, 0) // 2 if mode == "SAME_UPPER" else max(total, 0) - max(total, 0) // 2
        sides.append((first, max(total, 0) - first))
    return sides


def _ceiling(node: Node, length: int, sides: tuple[int, int], kernel: int, stride: int) -> tuple[int, int]:
    """The padding with which one more window fits, as ceil_mode=1 asks for where the last one reaches beyond."""
    if node.op != "MaxPool":
        raise node.error("ceil_mode=1 averages over less than its kernel here; what would replace it: explicit pads")
    positions = -(-(length + sum(sides) - kernel) // stride)
    if positions * stride >= length + sides[0]:
        raise node.error("ceil_mode=1 gives a window of padding alone; what would replace it: ceil_mode=0")
    return (sides[0], positions * stride + kernel - length - sides[0])
