"""Processes: what they are, how they are described, found and checked."""
