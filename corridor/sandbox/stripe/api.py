"""The HTTP edge of the fake Stripe: authentication, form decoding, idempotency, faults, answers."""

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from corridor.sandbox.fault_answers import Misfortune, garbled
from corridor.sandbox.faults import Fault, FaultKind, Occasion
from corridor.sandbox.stripe import idempotency, lists
from corridor.sandbox.stripe.errors import (
    Answer,
    Document,
    StripeError,
    api_error,
    invalid_request,
    rate_limited,
    unauthorized,
)
from corridor.sandbox.stripe.forms import decode
from corridor.sandbox.stripe.operations import OPERATIONS, Operation
from corridor.sandbox.stripe.provider import StripeSandbox
from corridor.sandbox.stripe.tokens import token_faults
from corridor.sandbox.stripe.webhooks import WebhookPump
from corridor.sandbox.stripe.work import WebhookPlan, Work, new_id

KEY_LENGTH = 255
UNKNOWN_STATUS = "awaiting_network_settlement"


@dataclass(frozen=True)
class Call:
    """A decoded request."""

    operation: Operation
    request_id: str
    path: str
    object_id: str | None
    params: Document
    expand: list[str]
    key: str | None
    base_url: str
    version: str

    @property
    def arguments(self) -> tuple[Any, ...]:
        """What the operation's function takes after the unit of work."""
        return (self.params,) if self.object_id is None else (self.params, self.object_id)


@dataclass(frozen=True)
class Prepared:
    """What the books already know about a call before it executes."""

    stored: idempotency.StoredAnswer | None
    metadata: dict[str, str]
    token: str | None
    fired: frozenset[str]


@dataclass(frozen=True)
class Done:
    """A call that executed: its answer, and the events that tell of it."""

    status: int
    body: bytes
    event_ids: list[str]


class StripeApi:
    """Routes under `/stripe/v1`."""

    def __init__(self, stripe: StripeSandbox, pump: WebhookPump) -> None:
        self.stripe = stripe
        self.pump = pump

    def routes(self, prefix: str) -> list[Route]:
        """One Starlette route per operation, and Stripe's 404 for everything else."""
        known = [
            Route(prefix + operation.path, self._endpoint(operation), methods=[operation.method])
            for operation in OPERATIONS
        ]
        return [*known, Route(prefix + "/{rest:path}", self._unknown, methods=["GET", "POST", "DELETE"])]

    def _endpoint(self, operation: Operation) -> Callable[[Request], Any]:
        async def endpoint(request: Request) -> Response:
            request_id = new_id("req")
            try:
                call = await self._read(operation, request, request_id)
                turned_away = await self._in_front(call)
                if turned_away is not None:
                    return turned_away
                return await (self._change(call) if operation.method == "POST" else self._look(call))
            except StripeError as error:
                return respond(error.answer(), request_id)

        return endpoint

    async def _unknown(self, request: Request) -> Response:
        message = f"Unrecognized request URL ({request.method}: {request.url.path})."
        return respond(invalid_request(message, status=404).answer(), new_id("req"))

    async def _read(self, operation: Operation, request: Request, request_id: str) -> Call:
        self._authenticate(request)
        raw = await request.body() if operation.method == "POST" else request.url.query.encode()
        params = decode(raw, operation.shape)
        key = request.headers.get("idempotency-key") if operation.method == "POST" else None
        if key is not None and not 0 < len(key) <= KEY_LENGTH:
            raise invalid_request(f"Idempotency keys must be 1 to {KEY_LENGTH} characters.")
        return Call(
            operation,
            request_id,
            request.url.path,
            request.path_params.get("id"),
            params,
            params.pop("expand", []),
            key,
            self.stripe.config.public_url or str(request.base_url).rstrip("/"),
            request.headers.get("stripe-version", self.stripe.config.webhook_api_version),
        )

    def _authenticate(self, request: Request) -> None:
        scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
        key = _basic_user(credentials) if scheme.lower() == "basic" else credentials
        if not key:
            raise unauthorized("You did not provide an API key.")
        expected = self.stripe.config.api_key
        if (expected and key != expected) or not key.startswith("sk_test_"):
            raise unauthorized(f"Invalid API Key provided: {key[:8]}****")

    async def _in_front(self, call: Call) -> Response | None:
        """A balancer's answer: it has no request id, no JSON, and no idea whether the key is being worked on."""
        occasion = Occasion(call.operation.name, call.key or "", call.params.get("metadata", {}))
        bad_luck = Misfortune(self.stripe.rules.claim(occasion, in_front=True))
        await self._record(call, bad_luck)
        error = bad_luck.get(FaultKind.FRONT_STATUS)
        return None if error is None else Response("no healthy upstream", error.status)

    async def _look(self, call: Call) -> Response:
        bad_luck = Misfortune(self.stripe.rules.claim(Occasion(call.operation.name)))
        await self._record(call, bad_luck)
        early = await bad_luck.before(self.stripe.config.hold_seconds)
        if early is not None:
            return early
        _raise_status(bad_luck)
        answer = await self.stripe.run(lambda work: self._read_answer(work, call))
        return self._conclude(call, bad_luck, _altered(answer, bad_luck).encoded(), answer.status)

    def _read_answer(self, work: Work, call: Call) -> Answer:
        call.operation.check(work, call.params)
        answer = call.operation.execute(work, *call.arguments)
        return replace(answer, body=lists.expand(work, answer.body, call.expand))

    async def _change(self, call: Call) -> Response:
        with self.stripe.keys.hold(call.key):
            prepared = await self._run(call, lambda work: _prepare(work, call))
            bad_luck = self._bad_luck(call, prepared)
            await self._record(call, bad_luck)
            early = await bad_luck.before(self.stripe.config.hold_seconds)
            if early is not None:
                return early
            _raise_status_not_stored(bad_luck)
            if prepared.stored is not None:
                return self._replay(call, bad_luck, prepared.stored)
            done = await self._execute(call, bad_luck)
        if bad_luck.has(FaultKind.WEBHOOK_FIRST):
            await self.pump.delivered(done.event_ids)
        return self._conclude(call, bad_luck, done.body, done.status)

    async def _execute(self, call: Call, bad_luck: Misfortune) -> Done:
        lag = bad_luck.get(FaultKind.LOOKUP_LAG)
        visible_at_ms = 0 if lag is None else self.stripe.clock.milliseconds() + lag.seconds * 1000
        plan = _webhook_plan(bad_luck)
        done: Done = await self._run(
            call, lambda work: _do(work, call, bad_luck), webhooks=plan, visible_at_ms=visible_at_ms
        )
        return done

    def _bad_luck(self, call: Call, prepared: Prepared) -> Misfortune:
        claimed = self.stripe.rules.claim(Occasion(call.operation.name, call.key or "", prepared.metadata))
        by_token = (
            token_faults(prepared.token, call.operation.name)
            if prepared.token is not None and self.stripe.rules.token_faults_in_force
            else []
        )
        fresh = [("token", fault) for fault in by_token if fault.kind not in prepared.fired]
        return Misfortune([*claimed, *(fresh if prepared.stored is None else [])])

    def _replay(self, call: Call, bad_luck: Misfortune, stored: idempotency.StoredAnswer) -> Response:
        headers = {"Idempotent-Replayed": "true", "Original-Request": stored.request_id}
        return self._conclude(call, bad_luck, stored.body, stored.status, headers)

    def _conclude(
        self,
        call: Call,
        bad_luck: Misfortune,
        body: bytes,
        status: int,
        headers: dict[str, str] | None = None,
    ) -> Response:
        broken = bad_luck.after(self.stripe.config.hold_seconds)
        if broken is not None:
            return broken
        echoed = {"Stripe-Version": call.version, **({"Idempotency-Key": call.key} if call.key else {})}
        sent = garbled(body) if bad_luck.has(FaultKind.GARBAGE_BODY) else body
        return _response(sent, status, call.request_id, {**echoed, **(headers or {})})

    async def _run(self, call: Call, unit: Callable[[Work], Any], **context: Any) -> Any:
        return await self.stripe.run(
            unit, base_url=call.base_url, request_id=call.request_id, idempotency_key=call.key, **context
        )

    async def _record(self, call: Call, bad_luck: Misfortune) -> None:
        """Every fired fault is written down first: a fault that cannot be counted proves nothing."""
        rows = [
            (self.stripe.clock.milliseconds(), call.operation.name, fault.kind, _fault_subject(call),
             told(cause, fault))
            for cause, fault in bad_luck.faults
        ]  # fmt: skip
        if rows:
            sql = "INSERT INTO fired_faults (at_ms, operation, kind, subject, cause) VALUES (?, ?, ?, ?, ?)"
            await self.stripe.books.run(lambda connection: connection.executemany(sql, rows).rowcount)


def told(cause: str, fault: Fault) -> str:
    """A rule's id or `token`, and after a space the status that was answered where the fault is one."""
    is_status = fault.kind in (FaultKind.STATUS, FaultKind.FRONT_STATUS)
    return f"{cause} {fault.status}" if is_status else cause


def respond(answer: Answer, request_id: str) -> Response:
    """An answer outside the normal path of a call."""
    return _response(answer.encoded(), answer.status, request_id, {})


def _response(body: bytes, status: int, request_id: str, headers: dict[str, str]) -> Response:
    if status in (409, 429) or status >= 500:
        headers = {"Stripe-Should-Retry": "false" if status == 500 else "true", **headers}
    return Response(body, status, {"Request-Id": request_id, **headers}, media_type="application/json")


def _prepare(work: Work, call: Call) -> Prepared:
    stored = idempotency.recall(work, idempotency.fingerprint(call.path, call.params))
    if stored is None:
        call.operation.check(work, call.params)
    intent = _intent_id(work, call)
    row = work.connection.execute("SELECT document, private FROM objects WHERE id = ?", (intent,)).fetchone()
    known = {} if row is None else lists.parsed(row["document"]).get("metadata", {})
    kept = {} if row is None else lists.parsed(row["private"])
    rows = work.connection.execute("SELECT kind FROM fired_faults WHERE subject = ?", (_fault_subject(call),))
    fired = frozenset(row["kind"] for row in rows)
    token = call.params.get("payment_method") or kept.get("card")
    return Prepared(stored, {**known, **call.params.get("metadata", {})}, token, fired)


def _do(work: Work, call: Call, bad_luck: Misfortune) -> Done:
    """Execute and keep the answer, in one transaction. An error asked for takes the answer's place."""
    answer = _altered(_effect(work, call, bad_luck), bad_luck)
    if call.expand:
        answer = replace(answer, body=lists.expand(work, answer.body, call.expand))
    error = bad_luck.get(FaultKind.STATUS)
    if error is not None:
        answer = api_error(error.status).answer()
    body = answer.encoded()
    if error is None or error.stored:
        idempotency.keep(work, idempotency.fingerprint(call.path, call.params), answer.status, body)
    return Done(answer.status, body, work.event_ids)


def _effect(work: Work, call: Call, bad_luck: Misfortune) -> Answer:
    """Execute unless a stored error without effect was asked for; refusals are undone, then stored as answers."""
    error = bad_luck.get(FaultKind.STATUS)
    if error is not None and not error.effect:
        return api_error(error.status).answer()
    work.connection.execute("SAVEPOINT effect")
    try:
        answer = call.operation.execute(work, *call.arguments)
    except StripeError as refusal:
        work.connection.execute("ROLLBACK TO effect")
        work.event_ids.clear()
        answer = refusal.answer()
    work.connection.execute("RELEASE effect")
    return answer


def _intent_id(work: Work, call: Call) -> str | None:
    charge = call.params.get("charge")
    if charge is not None:
        row = work.connection.execute("SELECT owner FROM objects WHERE id = ?", (charge,)).fetchone()
        return None if row is None else str(row["owner"])
    intent: str | None = call.params.get("payment_intent", call.object_id)
    return intent


def _fault_subject(call: Call) -> str:
    """The effect as the caller names it; without a key every attempt is its own effect."""
    return f"{call.operation.name}:{call.key or call.request_id}"


def _altered(answer: Answer, bad_luck: Misfortune) -> Answer:
    if answer.status == 200 and "status" in answer.body and bad_luck.has(FaultKind.UNKNOWN_STATUS):
        return replace(answer, body={**answer.body, "status": UNKNOWN_STATUS})
    return answer


def _webhook_plan(bad_luck: Misfortune) -> WebhookPlan:
    duplicate, delay = bad_luck.get(FaultKind.WEBHOOK_DUPLICATE), bad_luck.get(FaultKind.WEBHOOK_DELAY)
    return WebhookPlan(
        copies=0 if duplicate is None else duplicate.copies,
        delay_milliseconds=0 if delay is None else delay.milliseconds,
        reordered=bad_luck.has(FaultKind.WEBHOOK_REORDER),
        dropped=bad_luck.has(FaultKind.WEBHOOK_DROP),
    )


def _raise_status(bad_luck: Misfortune) -> None:
    error = bad_luck.get(FaultKind.STATUS)
    if error is not None:
        raise rate_limited() if error.status == 429 else api_error(error.status)


def _raise_status_not_stored(bad_luck: Misfortune) -> None:
    error = bad_luck.get(FaultKind.STATUS)
    if error is not None and not error.stored and not error.effect:
        _raise_status(bad_luck)


def _basic_user(credentials: str) -> str:
    try:
        return base64.b64decode(credentials, validate=True).decode().partition(":")[0]
    except (binascii.Error, UnicodeDecodeError):
        return ""
