"""Thin operations: read a batch fact, ask a pure function, say the difference, yield it."""
