"""Timing, integer arithmetic, cosimulation and resources of accelerators."""
