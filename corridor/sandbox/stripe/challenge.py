"""The issuer's 3-D Secure page: where a redirected buyer completes or fails the challenge."""

import html
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from corridor.sandbox.stripe.errors import Document, StripeError
from corridor.sandbox.stripe.intents import finish_challenge
from corridor.sandbox.stripe.provider import StripeSandbox
from corridor.sandbox.stripe.work import Work

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>3-D Secure (sandbox)</title>
<body style="font:16px system-ui;max-width:30em;margin:4em auto">
<h1>Your bank asks</h1><p>Do you approve the payment of <b>{amount} {currency}</b> (minor units)?</p>
<form method="post" action="{intent}/complete"><button>Complete authentication</button></form>
<form method="post" action="{intent}/fail"><button>Fail authentication</button></form></body></html>"""


class ChallengePages:
    """`GET /stripe/3ds/{intent}` shows two buttons; their POSTs finish the challenge and send the buyer back."""

    def __init__(self, stripe: StripeSandbox) -> None:
        self.stripe = stripe

    def routes(self, prefix: str) -> list[Route]:
        """The page and its two answers."""
        return [
            Route(prefix + "/{intent}", self._show, methods=["GET"]),
            Route(prefix + "/{intent}/complete", self._complete, methods=["POST"]),
            Route(prefix + "/{intent}/fail", self._fail, methods=["POST"]),
        ]

    async def _show(self, request: Request) -> Response:
        try:
            intent = await self.stripe.run(
                lambda work: work.get("payment_intent", request.path_params["intent"])
            )
        except StripeError as error:
            return HTMLResponse(html.escape(error.message), error.status)
        page = PAGE.format(amount=intent["amount"], currency=intent["currency"].upper(), intent=intent["id"])
        return HTMLResponse(page)

    async def _complete(self, request: Request) -> Response:
        return await self._finish(request, passed=True)

    async def _fail(self, request: Request) -> Response:
        return await self._finish(request, passed=False)

    async def _finish(self, request: Request, *, passed: bool) -> Response:
        intent_id: str = request.path_params["intent"]

        def unit(work: Work) -> tuple[Document, str | None]:
            intent = finish_challenge(work, intent_id, passed=passed)
            return intent, work.private("payment_intent", intent_id).get("return_url")

        try:
            intent, return_url = await self.stripe.run(unit)
        except StripeError as error:
            return HTMLResponse(html.escape(error.message), 404 if error.status == 404 else 409)
        if return_url is None:
            return HTMLResponse("Authentication finished. You may close this page.")
        return RedirectResponse(_return_to(return_url, intent), 303)


def _return_to(return_url: str, intent: Document) -> str:
    """The query parameters Stripe adds are hints to the merchant, never proof."""
    parts = urlsplit(return_url)
    good = intent["status"] in ("succeeded", "requires_capture")
    added = {
        "payment_intent": intent["id"],
        "payment_intent_client_secret": intent["client_secret"],
        "redirect_status": "succeeded" if good else "failed",
    }
    query = urlencode([*parse_qsl(parts.query, keep_blank_values=True), *added.items()])
    return urlunsplit(parts._replace(query=query))
