"""OBACWA (Zhe et al. 2019): equal slopes of output error against size, weights and activations."""

from codesign.allocation.methods.table_method import TableMethod
from codesign.allocation.sensitivities.outputs import OutputError
from codesign.allocation.solvers.lagrangian import Lagrangian

OBACWA = TableMethod(
    name="obacwa",
    paper="OBACWA, Zhe et al. 2019",
    equations="additive output errors, equal slopes: dErr_W/dr = dErr_A/dr = lambda",
    decides="layer: bits of weights and of activations",
    sensitivity=OutputError(),
    solver=Lagrangian(),
    choices="w2a4,w4a4,w8a4,w2a8,w4a8,w8a8",
    deviations=(
        "weights and activations of a layer are one choice, of which the error is measured together",
        "what is left of the budget after the equal slopes is spent by single moves",
        "the paper itself was not at hand: written from its description in surveys",
    ),
)
