"""The compiler: quantized network + hardware -> memory image, layer descriptors and schedule."""

from codesign.program.compiler import compile_network
from codesign.program.program import LayerPlan, PassPlan, Placement, Program

__all__ = ["LayerPlan", "PassPlan", "Placement", "Program", "compile_network"]
