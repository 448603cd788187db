"""Kinds of storage, one file each."""
