"""The compiler: quantized network + hardware -> memory image, layer descriptors and schedule."""

from codesign.program.compiler import compile_network
from codesign.program.program import LayerWork, PassPlan, Placement, Program, StepPlan

__all__ = ["LayerWork", "PassPlan", "Placement", "Program", "StepPlan", "compile_network"]
