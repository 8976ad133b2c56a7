"""Faults injected, and what must always hold afterwards: crash points, random walks, long runs, and the same path in
every mode."""
