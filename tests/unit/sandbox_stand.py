"""A running sandbox and a thin client for its tests: real HTTP, no code shared with the adapter."""

from typing import Any

import httpx

from corridor.sandbox.embedded import EmbeddedSandbox

Answer = httpx.Response
VISA = "pm_card_visa"


class Stand:
    """Calls on one running sandbox, as a merchant's backend and as the operator of the sandbox."""

    def __init__(self, sandbox: EmbeddedSandbox) -> None:
        self.url = sandbox.url
        self.http = httpx.Client(
            base_url=sandbox.url,
            headers={"Authorization": "Bearer sk_test_stand"},
            timeout=10,
            trust_env=False,
        )

    def close(self) -> None:
        self.http.close()

    def post(
        self, path: str, form: dict[str, Any] | None = None, key: str | None = None, **more: Any
    ) -> Answer:
        headers = {} if key is None else {"Idempotency-Key": key}
        return self.http.post(f"/stripe/v1{path}", data=form or {}, headers=headers, **more)

    def get(self, path: str, **query: Any) -> Any:
        answer = self.http.get(f"/stripe/v1{path}", params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def pay(self, token: str = VISA, key: Any = None, timeout: Any = 10, **form: Any) -> Answer:
        fields = {"amount": 1099, "currency": "eur", "confirm": "true", "payment_method": token,
                  "capture_method": "automatic", **form}  # fmt: skip
        return self.post("/payment_intents", fields, key, timeout=timeout)

    def control(self, method: str, path: str, **more: Any) -> Any:
        answer = self.http.request(method, f"/control{path}", **more)
        assert answer.is_success, answer.text
        return answer.json()

    def fault(self, kind: str, operation: str = "*", times: int = 1, match: Any = None, **fields: Any) -> str:
        rule = {
            "match": {"operation": operation, **(match or {})},
            "fault": {"kind": kind, **fields},
            "times": times,
        }
        return str(self.control("POST", "/faults", json=rule)["id"])

    def movements(self, payment: str) -> list[dict[str, Any]]:
        query = {"metadata_key": "payment", "metadata_value": payment}
        data: list[dict[str, Any]] = self.control("GET", "/books", params=query)["data"]
        return data

    def effects(self, payment: str) -> list[str]:
        return [row["effect"] for row in self.movements(payment)]
