"""Faults made on purpose: scripts that print what became of the jobs, and tests that run them briefly."""
