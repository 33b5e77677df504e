"""Thin edges between the workflows and the core: each opens a transaction, calls one rule, returns facts."""
