"""Integer networks: what a quantized model is, its arithmetic, its files. Needs numpy only."""
