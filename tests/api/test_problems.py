"""The table of problems is complete and says the same as the domain's refusals."""

import pytest

from api.problems import KINDS, TYPE_BASE, Problem, of_refusal
from corridor.domain.failure import Refusal, Refused


@pytest.mark.parametrize("refusal", Refusal)
def test_every_refusal_has_a_problem(refusal: Refusal) -> None:
    problem = of_refusal(Refused(refusal, "why", {"limit": 1}, pointer="/amount"))
    document = problem.document("/v1/payments", "req_1")
    assert document["code"] == refusal.value and 400 <= document["status"] < 500
    assert document["limit"] == 1 and document["errors"][0]["pointer"] == "/amount"


@pytest.mark.parametrize("code", KINDS)
def test_every_code_makes_a_whole_document(code: str) -> None:
    document = Problem(code, "why", facts={"status": 200, "code": "other"}).document("/x", "req_1")
    assert document["type"] == document["doc_url"] == f"{TYPE_BASE}/{code}"
    assert document["code"] == code and document["status"] == KINDS[code].status, (
        "facts never replace members"
    )


def test_only_an_answer_that_knows_says_that_money_did_not_move() -> None:
    unknown = {code for code, kind in KINDS.items() if kind.money_state == "unknown"}
    assert unknown == {"outcome_unknown", "idempotency_in_flight", "internal_error", "concurrency_limited"}
    assert Problem("outcome_unknown", "why").document("/x", "req_1")["money_state"] == "unknown"
    assert (
        Problem("unavailable", "why", money_state="unknown").document("/x", "req_1")["money_state"]
        == "unknown"
    )


def test_a_case_that_knows_better_says_whether_a_repeat_helps() -> None:
    assert Problem("rate_unavailable", "why").document("/x", "req_1")["retry"] == "after"
    assert Problem("rate_unavailable", "why", retry="never").document("/x", "req_1")["retry"] == "never"
