"""Recorded decisions under a changed policy: what would have been decided otherwise, and what nobody can tell."""
