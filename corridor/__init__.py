"""Corridor's core: the rules of moving money and the adapters that speak to providers."""
