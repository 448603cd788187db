"""The processes that ship with Graticule: one a file, found by scanning this folder."""
