"""The provider sandbox: faithful fakes of providers' HTTP APIs, each with books of its own.

It shares no code with the adapters on purpose. The sandbox is the oracle of every proof about money,
so a misreading of a provider's documentation must not be able to hide on both sides.
"""
