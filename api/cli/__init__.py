"""The `corridor` command: runs, examines and recovers an installation."""
