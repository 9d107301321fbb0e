"""Choosing in a table: one file for each way. Numpy and SciPy only; no torch, no hardware."""
