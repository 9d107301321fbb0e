"""HAWQ-V2 (Dong et al., NeurIPS 2020): Pareto frontier of mean traces times squared errors, weights and activations."""

from codesign.allocation.methods.table_method import TableMethod
from codesign.allocation.sensitivities.hessian import TracesOfBoth
from codesign.allocation.solvers.pareto import Pareto

HAWQ_V2 = TableMethod(
    name="hawq-v2",
    paper="HAWQ-V2, Dong et al. 2020",
    equations="Omega = mean trace times |Q(W) - W|^2, and of maps; Pareto frontier of the sum of Omega",
    decides="layer: bits of weights and of activations",
    sensitivity=TracesOfBoth(),
    solver=Pareto(),
    choices="w2a4,w4a4,w8a4,w2a8,w4a8,w8a8",
    deviations=(
        "the frontier is exact and of whatever metric is limited; the paper's is of the model size",
        "traces of maps are of the images that are looked at together, which are independent",
        "the paper itself was not at hand: written from its description in surveys",
    ),
)
