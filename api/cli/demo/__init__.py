"""`corridor demo`: a day of cross-border orders on a stack of its own, disturbed on purpose, and proven at the end."""
