"""Campaigns of random hardware and networks on the RTL: every value, cycle and counter against the models."""
