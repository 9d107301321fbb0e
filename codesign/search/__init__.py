"""Searching hardware and quantization together: spaces, cost, Pareto fronts, verification of what was chosen."""
