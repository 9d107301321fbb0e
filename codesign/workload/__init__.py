"""Networks as graphs of layers: the types, the zoo, importers. Importing this package does not import torch."""

from codesign.workload.layers import (
    Add,
    AvgPool,
    BatchNorm,
    Conv,
    Flatten,
    Input,
    Layer,
    Linear,
    MaxPool,
    Relu,
)
from codesign.workload.network import Gemm, Network

__all__ = [
    "Add",
    "AvgPool",
    "BatchNorm",
    "Conv",
    "Flatten",
    "Gemm",
    "Input",
    "Layer",
    "Linear",
    "MaxPool",
    "Network",
    "Relu",
]
