"""Adapters to payment providers, all behind one typed port; one folder a provider, the same files in each."""
