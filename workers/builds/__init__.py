"""Which build of the workers carries which payments, and how a new one takes over."""
