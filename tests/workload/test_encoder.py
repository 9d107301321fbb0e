"""Encoders as products: counts against torch's own encoder, and what is refused."""

from __future__ import annotations

import pytest
from torch import nn

from codesign.errors import UserError
from codesign.workload.encoder import Encoder, bert_base


@pytest.mark.parametrize("encoder", [bert_base(16), Encoder("small", 5, 24, 40, 3, 2)], ids=lambda item: item.name)
def test_parameters_are_those_of_torch(encoder: Encoder) -> None:
    layer = nn.TransformerEncoderLayer(encoder.hidden, encoder.heads, encoder.feedforward)
    assert encoder.parameters == encoder.layers * sum(part.numel() for part in layer.parameters())


def test_operations_are_those_of_the_definition() -> None:
    encoder = bert_base(128)
    n, h, f = 128, 768, 3072
    assert encoder.macs == 12 * (4 * n * h * h + 2 * n * h * f + 2 * n * n * h)
    assert encoder.parameters == 85_054_464
    assert encoder.topology().macs == encoder.macs
    assert len(encoder.topology().layers) == 36 + 2 * 144 + 12 + 12 + 12
    assert {item.name: item.count * item.numbers for item in encoder.host} == {
        "softmax": 12 * 12 * n * n,
        "GELU": 12 * n * f,
        "residual sum": 24 * n * h,
        "layer norm": 24 * n * h,
    }


def test_heads_must_divide_the_features() -> None:
    with pytest.raises(UserError, match="network 'odd': 10 features do not divide into 3 heads"):
        Encoder("odd", 4, 10, 10, 3, 1)
