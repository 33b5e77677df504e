"""Judging a run: both sides' records, and the proofs over them. Used by the demo, the drill and the fault runs."""
