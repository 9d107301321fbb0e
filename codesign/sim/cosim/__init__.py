"""The generated RTL, run and compared."""
