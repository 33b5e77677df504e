"""A merchant's careful backend: it names every request with a key and repeats it until there is an answer.

It repeats what the API calls repeatable (`retry: same_key`), broken connections, 429 and 5xx, always with the same
key and the same bytes, and remembers every answer, so that later repeats can be compared byte for byte.
"""

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

Json = dict[str, Any]

GIVE_UP_SECONDS = 120.0
LONGEST_PAUSE_SECONDS = 2.0
REPEATS = 4
AGAIN_SECONDS = (0.3, 0.5, 1.0, 2.0, 5.0)
"""Between looks at what goes on, and between tries that nobody answered.

Hundreds who ask every second after orders that wait, or knock at an API that is away, keep it from working.
"""


class NoAnswer(Exception):
    """Repeats did not lead to an answer in time; the text names the request."""


@dataclass(frozen=True)
class Answer:
    """An answer that asks for no repeat. `seconds` counts from the first send, `sends` how often it took."""

    status: int
    body: bytes
    seconds: float
    sends: int

    @property
    def document(self) -> Json:
        found: Json = json.loads(self.body)
        return found

    @property
    def code(self) -> str | None:
        """The stable code of a problem, None for a success."""
        return self.document.get("code") if self.status >= 400 else None

    @property
    def is_not_yet(self) -> bool:
        """Not carried out yet (202), or nobody knows whether it was: the same key is answered otherwise later."""
        return self.status == 202 or self.code == "outcome_unknown"


@dataclass
class Sent:
    """One request that was answered for good, and every answer it got."""

    shop: "Shop"
    path: str
    body: bytes
    key: str
    answers: list[Answer] = field(default_factory=list)


@dataclass
class Shop:
    """One merchant's (or operator's) connection to the API."""

    name: str
    http: httpx.AsyncClient
    api_key: str
    sent: dict[str, Sent] = field(default_factory=dict)
    patience_seconds: float = GIVE_UP_SECONDS
    """How long one request is repeated while there is no answer to it."""

    async def post(self, path: str, body: Json, key: str) -> Answer:
        """Send until there is an answer that is not "try the same again". Raises `NoAnswer`."""
        content = json.dumps(body).encode()
        # Kept before it is sent: what got no answer may have been carried out all the same.
        record = self.sent.setdefault(key, Sent(self, path, content, key))
        answer = await self._send(path, content, key)
        if content == record.body:
            record.answers.append(answer)
        return answer

    async def repeat(self, sent: Sent) -> Answer:
        """The same request once more."""
        answer = await self._send(sent.path, sent.body, sent.key)
        sent.answers.append(answer)
        return answer

    async def get(self, path: str, **query: str | int) -> Json:
        """Read, patiently. Raises `NoAnswer`."""
        begun, sends = time.monotonic(), 0
        while time.monotonic() - begun < self.patience_seconds:
            sends += 1
            try:
                answer = await self.http.get(path, params=query, headers=self._headers())
            except httpx.TransportError:
                await asyncio.sleep(_nth(AGAIN_SECONDS, sends))
                continue
            if answer.status_code not in (429, 500, 502, 503):
                answer.raise_for_status()
                found: Json = answer.json()
                return found
            await asyncio.sleep(_pause(answer))
        raise NoAnswer(f"{self.name}: GET {path}")

    async def until(self, path: str, claim: Callable[[Json], bool], seconds: float) -> Json:
        """Read until `claim` is true of the object. Raises `NoAnswer` with what it was last."""
        begun, polls = time.monotonic(), 0
        while not claim(found := await self.get(path)):
            if time.monotonic() - begun > seconds:
                raise NoAnswer(f"{self.name}: {path} was still {found.get('status')} after {seconds:.0f} s")
            polls += 1
            await asyncio.sleep(_nth(AGAIN_SECONDS, polls))
        return found

    async def _send(self, path: str, content: bytes, key: str) -> Answer:
        begun, sends = time.monotonic(), 0
        while time.monotonic() - begun < self.patience_seconds:
            sends += 1
            try:
                answer = await self.http.post(path, content=content, headers=self._headers(key))
            except httpx.TransportError:
                await asyncio.sleep(_nth(AGAIN_SECONDS, sends))
                continue
            if not _asks_for_repeat(answer):
                return Answer(answer.status_code, answer.content, time.monotonic() - begun, sends)
            await asyncio.sleep(_pause(answer))
        raise NoAnswer(f"{self.name}: POST {path} with key {key}")

    def _headers(self, key: str | None = None) -> dict[str, str]:
        headers = {"Authorization": f"Bearer {self.api_key}"}
        if key is not None:
            headers |= {"Idempotency-Key": key, "Content-Type": "application/json"}
        return headers


def _nth(pauses: Sequence[float], number: int) -> float:
    """The pause after try `number`, counted from one; the last one goes on for ever."""
    return pauses[min(number, len(pauses)) - 1]


def _asks_for_repeat(answer: httpx.Response) -> bool:
    """Every 5xx, and every refusal that is no problem document: those were made where the connection broke, not by us."""
    if answer.status_code < 400:
        return False
    if (
        answer.status_code == 429
        or answer.status_code >= 500
        or "json" not in answer.headers.get("content-type", "")
    ):
        return True
    return bool(answer.json().get("retry") == "same_key")


def _pause(answer: httpx.Response) -> float:
    return min(float(answer.headers.get("retry-after", "0.5")), LONGEST_PAUSE_SECONDS)


async def repeat_all(shops: list[Shop], at_once: int = 8) -> list[Sent]:
    """Send every request that was carried out again, until each has two final answers to compare."""
    gate = asyncio.Semaphore(at_once)
    carried_out = [
        sent for shop in shops for sent in shop.sent.values() if any(a.status < 300 for a in sent.answers)
    ]

    async def again(sent: Sent) -> None:
        async with gate:
            await sent.shop.repeat(sent)
            for _ in range(REPEATS):
                if sum(not answer.is_not_yet for answer in sent.answers) > 1:
                    return
                await sent.shop.repeat(sent)

    await asyncio.gather(*map(again, carried_out))
    return carried_out
