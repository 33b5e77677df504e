"""The inbox router: wakes the workflows that wait for what a provider's webhook tells of.

A webhook proves nothing; the workflow it wakes asks the provider. Signaling twice is harmless, because workflows
remember which events they have seen; so an event is marked routed only after the server took every signal.
"""

from collections.abc import Callable
from datetime import datetime

import structlog
from opentelemetry.metrics import get_meter
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from corridor.domain.ids import Prefix, is_id
from corridor.runtime import metrics
from corridor.runtime.crash import crash_point
from corridor.runtime.loop import each
from corridor.storage import inbox_routing
from corridor.storage.database import Database
from corridor.storage.inbox import InboxState
from corridor.storage.inbox_routing import Hint, Taken
from workers.relay.starting import START_TIMEOUT
from workflows import names
from workflows.messages import ProviderHint

BATCH = 50

_log = structlog.get_logger(__name__)
_unmatched = get_meter("corridor").create_counter(
    "corridor.inbox.unmatched", description="provider webhooks nobody could place in three days; look at each"
)


class InboxRouter:
    """Takes due provider events and signals whoever waits."""

    def __init__(self, database: Database, client: Client, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._client = client
        self._clock = clock

    async def turn(self) -> int:
        """Returns how many events were taken."""
        now = self._clock()
        if not await self._database.read(inbox_routing.is_due, now):
            return 0
        taken = await self._database.write(inbox_routing.take_due, now, BATCH)
        crash_point("webhook.taken")
        await each(taken, self._route)
        return len(taken)

    async def _route(self, event: Taken) -> None:
        if event.state is InboxState.UNMATCHED:
            _unmatched.add(1, {"provider": event.provider})
            _log.error(
                "provider event is nobody's",
                provider=event.provider,
                provider_event_id=event.provider_event_id,
            )
        if event.state is InboxState.CONTRADICTED:
            metrics.proof_contradicted(event.provider)
            _log.error(
                "a provider event shows money of an effect that is on record as never made; nothing was booked:"
                " look it up at the provider",
                provider=event.provider,
                provider_event_id=event.provider_event_id,
                effect_key=event.effect_key,
            )
        if event.hints and all([await self._signal(event, hint) for hint in event.hints]):
            crash_point("webhook.routed")
            await self._database.write(inbox_routing.mark_routed, [event.id])

    async def _signal(self, event: Taken, hint: Hint) -> bool:
        """False: there is no such workflow to tell, yet or any more; the event stays and comes up again."""
        signal = ProviderHint(provider_event_id=event.provider_event_id, effect_key=hint.effect_key)
        handle = self._client.get_workflow_handle(_workflow_id(hint.object_id))
        try:
            await handle.signal(names.PROVIDER_HINT, signal, rpc_timeout=START_TIMEOUT)
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
            _log.warning(
                "no workflow waits for this provider event", object_id=hint.object_id, event_id=event.id
            )
            return False
        return True


def _workflow_id(object_id: str) -> str:
    if is_id(object_id, Prefix.REFUND):
        return names.refund_workflow_id(object_id)
    return names.payment_workflow_id(object_id)
