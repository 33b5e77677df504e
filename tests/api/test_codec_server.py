"""The codec server: opens payloads for operators, for nobody else, and tells the audit log without content."""

from typing import Any

import httpx
import pytest
import structlog
from google.protobuf import json_format
from temporalio.api.common.v1 import Payload, Payloads

from api.codec_server import Door, create_codec_app, door, origins
from corridor.runtime.converter import SealCodec
from corridor.runtime.keys import KeyRing
from corridor.runtime.settings import load

SECRET = b'{"buyer":"reference-77"}'
UI = "http://127.0.0.1:8233"
RING = KeyRing.generate()


def codec(namespace: str = "default", ring: KeyRing = RING) -> SealCodec:
    return SealCodec(ring, namespace)


def client(who: Door, peer: str = "127.0.0.1", base: str = "http://127.0.0.1:8081") -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=create_codec_app(codec(), "default", who), client=(peer, 50_000))
    return httpx.AsyncClient(transport=transport, base_url=base)


def local() -> Door:
    return Door(None, (UI,))


async def sealed(by: SealCodec | None = None) -> dict[str, Any]:
    payloads = await (by or codec()).encode([Payload(metadata={"encoding": b"json/plain"}, data=SECRET)])
    document: dict[str, Any] = json_format.MessageToDict(Payloads(payloads=payloads))
    return document


def opened(answer: httpx.Response) -> list[bytes]:
    return [payload.data for payload in json_format.Parse(answer.text, Payloads()).payloads]


async def test_payloads_are_opened_and_sealed_and_the_log_has_no_content() -> None:
    with structlog.testing.capture_logs() as lines:
        async with client(local()) as http:
            answer = await http.post(
                "/decode", json=await sealed(), headers={"X-Namespace": "default", "Origin": UI}
            )
            plain = json_format.MessageToDict(Payloads(payloads=[Payload(data=SECRET)]))
            back = await http.post("/encode", json=plain)
    assert opened(answer) == [SECRET] and SECRET not in opened(back)[0]
    assert answer.headers["Access-Control-Allow-Origin"] == UI
    assert [line["verb"] for line in lines] == ["decode", "encode"]
    assert lines[0]["key_ids"] == ["k1"] and lines[0]["payloads"] == 1 and "reference-77" not in str(lines)


@pytest.mark.parametrize(
    ("peer", "base", "headers"),
    [
        ("10.0.0.9", "http://127.0.0.1:8081", {}),
        ("127.0.0.1", "http://evil.example:8081", {}),
        ("127.0.0.1", "http://127.0.0.1:8081", {"Origin": "https://evil.example"}),
        ("127.0.0.1", "http://127.0.0.1:8081", {"Origin": "null"}),
    ],
)
async def test_without_a_token_only_this_machines_own_pages_are_answered(
    peer: str, base: str, headers: dict[str, str]
) -> None:
    async with client(local(), peer, base) as http:
        answer = await http.post("/decode", json=await sealed(), headers=headers)
    assert answer.status_code == 403 and "reference" not in answer.text
    assert "Access-Control-Allow-Origin" not in answer.headers


async def test_with_a_token_everybody_needs_it() -> None:
    async with client(Door("right", (UI,)), peer="10.0.0.9") as http:
        body = await sealed()
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "right-not"}):
            assert (await http.post("/decode", json=body, headers=headers)).status_code == 403
        good = await http.post("/decode", json=body, headers={"Authorization": "Bearer right"})
    assert opened(good) == [SECRET]


async def test_foreign_keys_namespaces_and_nonsense_are_400() -> None:
    async with client(local()) as http:
        foreign_ring = await sealed(codec(ring=KeyRing.generate()))
        foreign_namespace = await sealed(codec("other"))
        for answer in (
            await http.post("/decode", json=foreign_ring),
            await http.post("/decode", json=foreign_namespace),
            await http.post("/decode", json=await sealed(), headers={"X-Namespace": "other"}),
            await http.post("/decode", json={"payloads": 5}),
            await http.post("/decode", content=b"{", headers={"Content-Type": "application/json"}),
            await http.post(
                "/decode", content=b"x" * 9_000_000, headers={"Content-Type": "application/json"}
            ),
            await http.post("/decode", content=b"{}", headers={"Content-Type": "text/plain"}),
        ):
            assert answer.status_code == 400


async def test_preflight_is_granted_to_the_temporal_ui_only() -> None:
    asked = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type,x-namespace",
    }
    async with client(local()) as http:
        granted = await http.options("/decode", headers={"Origin": UI, **asked})
        denied = await http.options("/decode", headers={"Origin": "https://evil.example", **asked})
    assert granted.status_code == 200 and granted.headers["Access-Control-Allow-Origin"] == UI
    assert denied.status_code == 400 and "Access-Control-Allow-Origin" not in denied.headers


def test_public_sandbox_token_counts_as_none_and_an_own_one_is_required() -> None:
    assert door(load()).token is None
    assert door(load(codec_token="ours")).token == "ours"
    assert origins(load()) == ("http://127.0.0.1:8233", "http://localhost:8233")


async def test_a_temporal_ui_on_a_hostname_of_its_own_is_let_in_by_its_origin() -> None:
    ui = "https://temporal.example"
    settings = load(codec_token="a-token-of-ours", codec_origins=(ui,))
    preflight = {"Origin": ui, "Access-Control-Request-Method": "POST"}
    async with client(door(settings), base="https://codec.example") as http:
        allowed = await http.options("/decode", headers=preflight)
        refused = await http.options("/decode", headers={**preflight, "Origin": "https://elsewhere.example"})
    assert allowed.headers["Access-Control-Allow-Origin"] == ui
    assert (allowed.status_code, refused.status_code) == (200, 400)
    assert origins(load()) == (UI, "http://localhost:8233")
