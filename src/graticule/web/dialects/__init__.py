"""Older and foreign shapes of the same things: they translate and never decide."""
