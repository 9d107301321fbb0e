"""The accelerator in Amaranth, from processing element to top, and its Verilog."""
