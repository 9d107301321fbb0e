"""Number formats, quantizers, training with them, and lowering to integer networks."""
