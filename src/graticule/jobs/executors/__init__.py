"""Kinds of executor, one file each."""
