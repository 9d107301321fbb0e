"""cocotb benches of generated Verilog, module by module; `tests/tb` builds and runs them.

The bench of a whole accelerator belongs to the package (`codesign.sim.cosim.bench`), since `codesign cosim` runs it.
"""
