"""Labelled images: sources, splits, data of one's own."""
