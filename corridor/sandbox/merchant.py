"""A merchant's webhook receiver for demos and tests: verifies Standard Webhooks signatures and keeps what came."""

import json
import sqlite3
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from corridor.sandbox.books import Books
from corridor.sandbox.clock import Clock

Document = dict[str, Any]

SCHEMA = """
CREATE TABLE IF NOT EXISTS merchants (
  name TEXT PRIMARY KEY, secret TEXT NOT NULL, fail_next INTEGER NOT NULL DEFAULT 0,
  fail_status INTEGER NOT NULL DEFAULT 500
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS received (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT, merchant TEXT NOT NULL, at_ms INTEGER NOT NULL, webhook_id TEXT,
  verified INTEGER NOT NULL, status INTEGER NOT NULL, problem TEXT, headers TEXT NOT NULL, body TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS received_by_merchant ON received (merchant, sequence);
"""
KEPT_HEADERS = ("webhook-id", "webhook-timestamp", "webhook-signature", "content-type", "user-agent")


class MerchantSettings(BaseModel):
    """How a merchant's receiver behaves."""

    model_config = ConfigDict(extra="forbid")
    secret: str | None = None
    fail_next: int = Field(default=0, ge=0, description="answer this many good deliveries with fail_status")
    fail_status: int = Field(default=500, ge=300, le=599)


class Merchants:
    """Receivers by name, over a file of their own."""

    def __init__(self, data_dir: Path, clock: Clock, default_secret: str) -> None:
        self.books = Books(data_dir / "merchant.sqlite", SCHEMA)
        self.clock = clock
        self.default_secret = default_secret

    async def configure(self, name: str, settings: MerchantSettings) -> None:
        """Set secret (kept if none is given) and planned failures."""
        sql = (
            "INSERT INTO merchants (name, secret, fail_next, fail_status) VALUES (?, COALESCE(?, ''), ?, ?)"
            " ON CONFLICT (name) DO UPDATE SET secret = COALESCE(?, secret), fail_next = excluded.fail_next,"
            " fail_status = excluded.fail_status"
        )
        values = (name, settings.secret, settings.fail_next, settings.fail_status, settings.secret)
        await self.books.run(lambda connection: connection.execute(sql, values).rowcount)

    async def receive(self, name: str, headers: dict[str, str], body: bytes) -> int:
        """Store a delivery and return the HTTP status to answer."""
        return await self.books.run(lambda connection: self._receive(connection, name, headers, body))

    async def deliveries(self, name: str | None, after: int, limit: int) -> list[Document]:
        """What came, oldest first."""
        sql = "SELECT * FROM received WHERE sequence > ? AND (? IS NULL OR merchant = ?) ORDER BY sequence LIMIT ?"
        rows = await self.books.run(lambda c: c.execute(sql, (after, name, name, limit)).fetchall())
        return [_shown(row) for row in rows]

    def _receive(
        self, connection: sqlite3.Connection, name: str, headers: dict[str, str], body: bytes
    ) -> int:
        row = connection.execute("SELECT * FROM merchants WHERE name = ?", (name,)).fetchone()
        secret = (row["secret"] if row is not None else "") or self.default_secret
        problem = _problem(secret, headers, body)
        status = 204 if problem is None else 400
        if problem is None and row is not None and row["fail_next"] > 0:
            connection.execute("UPDATE merchants SET fail_next = fail_next - 1 WHERE name = ?", (name,))
            status = row["fail_status"]
        connection.execute(
            "INSERT INTO received (merchant, at_ms, webhook_id, verified, status, problem, headers, body)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (name, self.clock.milliseconds(), headers.get("webhook-id"), int(problem is None), status, problem,
             json.dumps(headers), body.decode("utf-8", "replace")),
        )  # fmt: skip
        return status


def merchant_router(merchants: Merchants) -> APIRouter:
    """All routes under `/merchant`."""
    router = APIRouter(prefix="/merchant", tags=["merchant"])

    @router.put("/webhooks/{name}")
    async def configure(name: str, settings: MerchantSettings) -> MerchantSettings:
        """Set the signing secret and planned failures of one receiver."""
        await merchants.configure(name, settings)
        return settings.model_copy(update={"secret": None})

    @router.post("/webhooks/{name}")
    async def receive(name: str, request: Request) -> JSONResponse:
        """Take a delivery."""
        headers = {key: value for key, value in request.headers.items() if key in KEPT_HEADERS}
        status = await merchants.receive(name, headers, await request.body())
        return JSONResponse({"received": status == 204}, 200 if status == 204 else status)

    @router.get("/deliveries")
    async def deliveries(
        name: str | None = None,
        after: Annotated[int, Query(ge=0)] = 0,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> Document:
        """Everything received, verified or not."""
        data = await merchants.deliveries(name, after, limit)
        return {"data": data, "next_after": data[-1]["sequence"] if data else after}

    return router


def _problem(secret: str, headers: dict[str, str], body: bytes) -> str | None:
    if not secret:
        return "no secret is set for this receiver"
    try:
        Webhook(secret).verify(body, headers, json_parse=False)
    except (WebhookVerificationError, ValueError) as error:
        return str(error)
    return None


def _shown(row: sqlite3.Row) -> Document:
    shown = {**dict(row), "verified": bool(row["verified"]), "headers": json.loads(row["headers"])}
    try:
        return {**shown, "event": json.loads(row["body"])}
    except json.JSONDecodeError:
        return {**shown, "event": None}
