"""Misbehaviour asked of the sandbox besides what comes with a card's token: merchants' receivers, liquidity providers."""

from collections.abc import Iterable, Mapping

import httpx

_LIQUIDITY: Mapping[str, Mapping[str, object]] = {
    "no_quote": {"kind": "no_quote"},
    "latency": {"kind": "latency", "milliseconds": 1_200},
    "status": {"kind": "status", "status": 503},
}


async def receiver_fails(sandbox: httpx.AsyncClient, seller: str, count: int, status: int) -> bool:
    """The seller's webhook receiver answers its next good deliveries with an error."""
    return await _done(
        sandbox, "PUT", f"/merchant/webhooks/{seller}", {"fail_next": count, "fail_status": status}
    )


async def liquidity_fails(sandbox: httpx.AsyncClient, house: str, fault: str) -> bool:
    """The next few quotes of one liquidity provider fail, or come late."""
    rule = {"match": {"operation": f"lp.{house}.quote"}, "fault": _LIQUIDITY[fault], "times": 3}
    return await _done(sandbox, "POST", "/control/faults", rule)


async def clear(sandbox: httpx.AsyncClient, sellers: Iterable[str]) -> None:
    """Everything healthy from now on, also what a card's token would still ask for."""
    (await sandbox.delete("/control/faults")).raise_for_status()
    (await sandbox.put("/control/token_faults", json={"in_force": False})).raise_for_status()
    for seller in sellers:
        (await sandbox.put(f"/merchant/webhooks/{seller}", json={"fail_next": 0})).raise_for_status()


async def fired(sandbox: httpx.AsyncClient) -> dict[str, int]:
    """How often each kind of fault really met a call, by the sandbox's own record; refusals by their status."""
    answer = await sandbox.get("/control/faults/fired")
    answer.raise_for_status()
    found: dict[str, int] = answer.json()["by_kind"]
    found.pop("status", None)
    return found | {f"status {status}": count for status, count in answer.json()["by_status"].items()}


async def _done(sandbox: httpx.AsyncClient, method: str, path: str, body: Mapping[str, object]) -> bool:
    try:
        return (await sandbox.request(method, path, json=body)).is_success
    except httpx.TransportError:
        return False
