"""A TCP proxy that stands on every edge of the stack and breaks it on request."""
