"""The ledger and the read models from histories alone, and what differs from the live ones."""
