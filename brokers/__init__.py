"""The outside world: one adapter a file behind one protocol."""
