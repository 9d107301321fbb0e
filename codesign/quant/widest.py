"""Networks in the most bits there are, whose layers and maps a subclass replaces by its own kind."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from codesign.formats.assignment import Assignment
from codesign.formats.row_format import RowFormat
from codesign.integer.layer_bits import maps_read
from codesign.quant.fake_quant import ActivationQuantizer
from codesign.quant.qat import QatNetwork, QuantConv
from codesign.quant.training_rules import DEFAULT, TrainingRule
from codesign.workload.network import Network


class WidestNetwork(QatNetwork):
    """Fused passes with layers and maps of another kind.

    Attributes:
        reads: the map that a weighted layer reads, by layer.
    """

    def __init__(
        self,
        network: Network,
        state: Mapping[str, Tensor],
        form: RowFormat,
        act_bits: int,
        training_rule: TrainingRule = DEFAULT,
        *,
        input_signed: bool = False,
    ) -> None:
        """Build from a network without batch norms and its weights; `form` and `act_bits` are the most there may be.

        Raises:
            UserError: as `QatNetwork`.
        """
        super().__init__(
            network, state, Assignment.uniform(network, form, act_bits), training_rule, input_signed=input_signed
        )
        self.reads = maps_read(self.fused)
        for tensor in dict.fromkeys(self.reads.values()):
            self.quantizers[self._quantizer_of[tensor]] = self.map_like(self.quantizer(tensor))
        for item in self.fused.convs:
            self.convs[self._conv_of[item.name]] = self.layer_like(self.conv(item.name))

    def layer_like(self, layer: QuantConv) -> QuantConv:
        """What a layer is replaced by."""
        return layer

    def map_like(self, quantizer: ActivationQuantizer) -> ActivationQuantizer:
        """What the quantizer of a map that a weighted layer reads is replaced by."""
        return quantizer
