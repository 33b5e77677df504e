"""The HTTP face: merchants' API, provider webhooks, codec server, command line."""
