"""The one error of an environment that may not start; apart, so that catching it imports nothing else."""


class SettingsRefused(Exception):
    """The environment does not describe an installation that may start; the text says what to change."""
