"""Histories read, told apart and kept: the second copy of every payment."""
