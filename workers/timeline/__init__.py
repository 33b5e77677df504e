"""The story of one payment: what happened to it, in order, and what caused each step."""
