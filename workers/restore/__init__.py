"""A database that came back older, made whole again from histories and the providers' books."""
