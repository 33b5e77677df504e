"""What payments, lists and workers cost in a database of a thousand and of a million payments."""
