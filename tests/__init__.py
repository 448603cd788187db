"""The tests; a package, so that `tests.serving` is ours whatever else is installed."""
