"""How a money call may be sent: data that a workflow obeys, derived from an adapter's idempotency contract."""

from corridor.domain.outcome import Frozen


class SendPolicy(Frozen):
    """How often a money call may be sent and when it is looked up; goes into the workflow as data."""

    maximum_attempts: int
    initial_interval_seconds: float
    maximum_interval_seconds: float
    give_up_after_seconds: int
    """No attempt begins later than this after the effect was declared (key life minus a margin)."""
    lookup_delays_seconds: tuple[int, ...]
    """Waits before each look-up; after the last miss absence is proof only if `absence_is_proof`."""
    absence_is_proof: bool
