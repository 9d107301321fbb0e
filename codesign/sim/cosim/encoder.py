"""An encoder with its matrix products on the RTL and its other operators on the host, against the integer model.

Every product is a program of its own: the host packs it, starts the accelerator, reads the map of codes that it wrote
to memory, computes softmax, GELU, sums and norms in integers, and goes on. Products of two computed maps are compiled
for every input, since one of the maps is their weights. What the RTL gave is what the next product gets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codesign.arch.hardware import Hardware
from codesign.arch.multiplier import MULTIPLIERS
from codesign.integer.encoder import IntegerEncoder, by_model, random_weights
from codesign.integer.network import IntArray, IntegerNetwork
from codesign.sim.cosim.run import Progress, run_network
from codesign.workload.encoder import Encoder


@dataclass(frozen=True)
class ProductComparison:
    """A product on the RTL beside the models; values are compared on chip and again where they left it."""

    name: str
    compared_values: int
    mismatched_values: int
    rtl_cycles: int
    model_cycles: int
    counter_differences: int


@dataclass(frozen=True, eq=False)
class EncoderCosim:
    """Sequences through an encoder.

    Attributes:
        products: in the order they ran, sequence after sequence.
        outputs, expected: codes (sequences, features, positions), with the products on the RTL and on the model.
    """

    products: tuple[ProductComparison, ...]
    outputs: IntArray
    expected: IntArray

    @property
    def mismatched_outputs(self) -> int:
        """Codes of the encoder's results that differ."""
        return int(np.count_nonzero(self.outputs != self.expected))

    @property
    def exact(self) -> bool:
        """Whether nothing differs: no code, no cycle, no counter."""
        return self.mismatched_outputs == 0 and not any(
            item.mismatched_values or item.counter_differences or item.rtl_cycles != item.model_cycles
            for item in self.products
        )


def run_encoder(
    hw: Hardware, encoder: Encoder, sequences: int = 1, seed: int = 0, progress: Progress | None = None
) -> EncoderCosim:
    """Run random sequences through `encoder` with random weights, all of the width of the hardware's activations.

    Raises:
        UserError: a product does not fit the hardware: its bands hold no Fixed rows of that width, or a map
            exceeds the activation memories.
    """
    rng = np.random.default_rng(seed)
    shape = (encoder.hidden, encoder.sequence)
    multiplier = MULTIPLIERS[hw.multiplier_bits]
    weights = random_weights(encoder, seed)
    integers = IntegerEncoder(encoder, weights, rng.standard_normal(shape), hw.act_bits, multiplier)
    found: list[ProductComparison] = []
    total = sequences * encoder.layers * (6 + 2 * encoder.heads)

    def on_rtl(network: IntegerNetwork, codes: IntArray) -> IntArray:
        result = run_network(hw, network, codes[None])
        found.append(
            ProductComparison(
                network.name,
                result.compared_values,
                result.mismatched_values,
                result.rtl_cycles,
                result.model_cycles,
                len(result.counter_differences),
            )
        )
        if progress is not None:
            progress("products", len(found), total)
        codes = result.outputs[0]
        return codes.reshape(network.output.shape)

    outputs, expected = [], []
    for _ in range(sequences):
        x = integers.encode(rng.standard_normal(shape))
        expected.append(integers.run(x, by_model).values)
        outputs.append(integers.run(x, on_rtl).values)
    return EncoderCosim(tuple(found), np.stack(outputs), np.stack(expected))
