"""Telling merchants what happened: signed webhooks over a client that cannot be turned against us."""
