"""The keeper: a worker's own part in the deployment, so that no payment waits for a build that was never chosen.

Temporal gives versioned workers nothing until one build is made current. On a cluster an operator does that
(`corridor deploy promote`); the first build of a new installation, or of a Temporal store that was lost, has nobody
to ask and makes itself current. Where no other build can run (the embedded stack) each build takes over at its start.
"""

from collections.abc import Iterable

import structlog
from temporalio.client import Client

from corridor.runtime.refused import SettingsRefused
from corridor.runtime.replay import Replayed
from workers.builds import deployment
from workers.builds.adoption import adopt, in_this_process
from workflows import names

log = structlog.get_logger(__name__)


async def without_builds(client: Client, takes_over: bool) -> None:
    """Prepare the deployment for workers of no build, which get nothing while a build is current.

    Raises `SettingsRefused` where that is another's to decide, or would leave pinned payments behind.
    """
    chosen = await deployment.current(client)
    if chosen is None:
        return
    pinned = (await client.count_workflows(deployment.PINNED)).count
    if pinned or not takes_over:
        raise SettingsRefused(
            f"build {chosen} is current and {pinned} workflows are pinned to a build: workers without one would get "
            "no work; leave CORRIDOR_WORKER_VERSIONING on"
        )
    await deployment.make_current(client, deployment.NONE)


class Keeper:
    """Looks after one build of the deployment, in each process that runs it."""

    def __init__(self, client: Client, build_id: str, providers: Iterable[str], takes_over: bool) -> None:
        self._client = client
        self._build_id = build_id
        self._queues = names.queues(providers)
        self._takes_over = takes_over
        self._told: set[str] = set()

    async def begin(self) -> None:
        """Return when payments are dispatched: to this build, or to the one that is current beside it."""
        await deployment.registered(self._client, self._build_id, self._queues)
        chosen = await deployment.current(self._client)
        if chosen is None or (self._takes_over and chosen != self._build_id):
            # Every queue of ours is polled; those of a build that is gone are not missed.
            spread = await deployment.make_current(self._client, self._build_id, whatever_is_missing=True)
            log.info(
                "new payments begin on this build",
                build_id=self._build_id,
                instead_of=chosen,
                every_queue_knows=spread,
            )
        elif chosen != self._build_id:
            log.info("this build waits to be promoted", build_id=self._build_id, current=chosen)

    async def turn(self) -> int:
        """Put right what happened to the deployment meanwhile; returns how many workflows were adopted."""
        if await deployment.current(self._client) is None:
            await self.begin()
        return await self._adopt_the_stranded() if self._takes_over else 0

    async def _adopt_the_stranded(self) -> int:
        moved = 0
        for build in await deployment.builds(self._client):
            if build.build_id != self._build_id and build.is_stranded:
                adopted = await adopt(
                    self._client, build.build_id, self._build_id, in_this_process(self._client)
                )
                moved += len(adopted.moved)
                log.info("adopted", from_build=build.build_id, moved=adopted.moved)
                self._tell_of(adopted.misfits, build.build_id)
        return moved

    def _tell_of(self, misfits: Iterable[Replayed], old_build: str) -> None:
        """Once each: they are looked at again in every turn."""
        for misfit in misfits:
            if misfit.workflow_id not in self._told:
                self._told.add(misfit.workflow_id)
                log.error(
                    "this workflow waits for its old build",
                    workflow_id=misfit.workflow_id,
                    build_id=old_build,
                    reason=misfit.reason,
                )
