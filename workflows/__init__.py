"""Durable orchestration: what happens in which order, what is waited for, what is undone."""
