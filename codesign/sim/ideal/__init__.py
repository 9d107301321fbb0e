"""SCALE-Sim's ideal systolic arrays."""
