"""The double-entry ledger: chart of accounts, posting rules, store, proof and seal."""
