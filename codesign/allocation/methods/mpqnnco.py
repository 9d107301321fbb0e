"""MPQNNCO (Chen et al., ICCV 2021): greedy knapsack over the Gauss-Newton curvature of the error."""

from codesign.allocation.methods.table_method import TableMethod
from codesign.allocation.sensitivities.hessian import GaussNewton
from codesign.allocation.solvers.greedy import Greedy

MPQNNCO = TableMethod(
    name="mpqnnco",
    paper="MPQNNCO, Chen et al. 2021",
    equations="second-order term of the loss by Gauss-Newton; multiple-choice knapsack by greedy search",
    decides="layer: bits of weights, 2 to 8",
    sensitivity=GaussNewton(),
    solver=Greedy(),
    choices="w2,w3,w4,w5,w6,w8",
    deviations=(
        "activations have the accelerator's bits; the paper gives them those of the weights",
        "what is left of the budget after the greedy walk is spent by single moves",
        "the paper itself was not at hand: written from its description in surveys",
    ),
)
