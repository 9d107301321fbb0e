"""Exact cycles of a plan, without RTL."""
