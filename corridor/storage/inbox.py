"""The inbox of provider webhooks: stored once, sealed, before we answer 2xx; routed later by the relay.

stored → routed (a workflow was told) | confirmed (we knew already) | unmatched (nobody's, after every try)
| contradicted (it shows money where we had concluded that none would move).
"""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import Connection, insert
from sqlalchemy.exc import IntegrityError

from corridor.domain.outcome import Frozen
from corridor.storage.tables import provider_events


class InboxState(StrEnum):
    STORED = "stored"
    ROUTED = "routed"
    CONFIRMED = "confirmed"
    UNMATCHED = "unmatched"
    CONTRADICTED = "contradicted"


class NewProviderEvent(Frozen):
    """A verified webhook: what routes it, and its raw bytes, sealed for `place(id)`."""

    id: str
    provider: str
    provider_event_id: str
    type: str
    payment_id: str | None
    effect_key: str | None
    provider_reference: str | None
    body_sealed: bytes
    created_at: datetime
    is_setback: bool = False
    shows_money: bool = False


def place(event_id: str) -> str:
    """What the sealed body is bound to."""
    return f"provider_events/{event_id}"


def store(connection: Connection, new: NewProviderEvent, now: datetime) -> bool:
    """Keep the event, due at once. False: this provider's event is here already, nothing was changed."""
    values = new.model_dump(exclude={"body_sealed"})
    try:
        with connection.begin_nested():
            connection.execute(
                insert(provider_events).values(
                    **values, body=new.body_sealed, state=InboxState.STORED, received_at=now, due_at=now
                )
            )
    except IntegrityError:
        return False
    return True
