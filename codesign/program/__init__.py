"""The compiler: quantized network + hardware -> memory image, layer descriptors and schedule."""

from codesign.program.compiler import compile_network, plan_network
from codesign.program.images import Choose, plan_images
from codesign.program.plan import LayerWork, PassPlan, Placement, Plan, StepPlan
from codesign.program.planner import Planner
from codesign.program.program import Program

__all__ = [
    "Choose",
    "LayerWork",
    "PassPlan",
    "Placement",
    "Plan",
    "Planner",
    "Program",
    "StepPlan",
    "compile_network",
    "plan_images",
    "plan_network",
]
