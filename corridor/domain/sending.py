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
    rounds: int = 1
    """How often sending and looking up may follow each other under one key. One where a key protects nothing."""
    answers_are_kept: bool = False
    """A server error is the key's answer for good: sending again would bring the same."""
    last_look_delay_seconds: int = 0
    """Waited before absence is concluded, beyond the delays above: a call nobody answered may be running still."""
    last_word_delays_seconds: tuple[int, ...] | None = None
    """Waits before each look-up once the provider has said its last word under the key: the call is over, and only what
    it did may be late to show. None, in plans from before this was told apart: as for any look-up."""
