"""Kinds of ledger, one file each."""
