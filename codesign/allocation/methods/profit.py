"""PROFIT (Park and Yoo, ECCV 2020) as an allocator: its instability is what layers lose."""

from codesign.allocation.methods.table_method import TableMethod
from codesign.allocation.sensitivities.aiw import ActivationInstability
from codesign.allocation.solvers.milp import Milp

PROFIT = TableMethod(
    name="profit",
    paper="PROFIT, Park and Yoo 2020",
    equations="eq. 2: divergence of the Gaussians of a row's results, by quantized weights from float ones; least sum",
    decides="layer: bits of weights, by what they do to statistics of results",
    sensitivity=ActivationInstability(),
    solver=Milp(),
    choices="w2,w3,w4,w5,w6,w8",
    deviations=(
        "the paper allocates nothing: it freezes layers in the order of their instability, which is "
        "`quantize --regime profit`; here the integer program keeps it small",
        "results are compared by quantized and by float weights; the paper, and the regime, compare them from before "
        "a step of training to after it, which says little of 2 bits in few steps: hardly a weight changes its level",
        "of the fully connected layers, too, which the official code leaves out",
        "results are compared before the bias, and there are no batch norms, which are folded",
    ),
)
