"""Pure rules: money, currencies, ids, the payment state machine, outcomes, quotes, postings."""
