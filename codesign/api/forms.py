"""What a network is exported as."""

from __future__ import annotations

from enum import StrEnum


class Form(StrEnum):
    """Names of the forms."""

    QDQ = "qdq"
    QONNX = "qonnx"
    INTEGER = "integer"
    INTEGER_QONNX = "integer-qonnx"
    NPZ = "npz"
