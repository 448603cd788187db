"""The contract tests that authors of variants subclass."""
