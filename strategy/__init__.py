"""Decisions: pure functions of what is known. No I/O, no clock, no database, no unseeded randomness."""
