"""Jobs: their life, the ledger that keeps them, the agent that has them run."""
