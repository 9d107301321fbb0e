"""Processing elements, rows and arrays."""
