"""Hardware/software co-design of quantized neural networks: one tool for the accelerator and the model on it."""

__version__ = "0.1.0"
