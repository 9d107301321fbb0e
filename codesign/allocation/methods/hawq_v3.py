"""HAWQ-V3 (Yao et al., ICML 2021): integer program over mean trace times squared error."""

from codesign.allocation.methods.table_method import TableMethod
from codesign.allocation.sensitivities.hessian import MeanTrace
from codesign.allocation.solvers.milp import Milp

HAWQ_V3 = TableMethod(
    name="hawq-v3",
    paper="HAWQ-V3, Yao et al. 2021",
    equations="integer program: least sum of Omega = mean trace times |Q(W) - W|^2 within limits",
    decides="layer: weights and activations of 4 or 8 bits together",
    sensitivity=MeanTrace(),
    solver=Milp(),
    choices="w4a4,w8a8",
    deviations=(
        "latency is that of the whole network by the exact timing model, not a sum of measured layers",
        "a binary for each choice; the official notebook has one whole number 1 or 2 for each layer",
        "layers that read the same map are tied, which the notebook writes as equations by hand",
        "the paper itself was not at hand: written from its description in surveys",
    ),
)
