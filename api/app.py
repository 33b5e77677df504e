"""The HTTP application: routes, the error map and the edge around them."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, FastAPI
from pydantic.json_schema import models_json_schema

from api import failures
from api.auth import KeyCache
from api.crowd import Crowd
from api.dependencies import ApiDependencies
from api.feed import Feed
from api.middleware import VERSION, Edge
from api.paging import Cursors
from api.problems import MEDIA_TYPE
from api.routes import (
    balances,
    events,
    health,
    payments,
    provider_webhooks,
    quotes,
    refunds,
    reviews,
    webhook_deliveries,
    webhook_endpoints,
)
from api.schemas.problem import ProblemView
from corridor.runtime import metrics

ROUTERS: Sequence[APIRouter] = (
    payments.router,
    refunds.router,
    quotes.router,
    reviews.router,
    balances.router,
    events.router,
    webhook_endpoints.router,
    webhook_deliveries.router,
    provider_webhooks.router,
    health.router,
)


def create_app(dependencies: ApiDependencies) -> FastAPI:
    """The application on these dependencies; closing them is the caller's."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        for provider in dependencies.registry.names:
            metrics.provider_webhook_refused(provider, times=0)
        async with app.state.feed.running():
            yield

    app = FastAPI(
        title="Corridor",
        version=VERSION,
        summary="Durable cross-border payments",
        lifespan=lifespan,
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.dependencies = dependencies
    app.state.keys = KeyCache()
    app.state.crowd = Crowd(dependencies.settings.requests_at_once, "requests")
    app.state.streams = Crowd(dependencies.settings.streams_at_once, "event streams")
    app.state.cursors = Cursors(dependencies.settings.api_key_pepper)
    app.state.is_closing = False
    app.state.feed = Feed(dependencies.database, dependencies.stream_poll_seconds)
    for router in ROUTERS:
        app.include_router(router)
    failures.install(app)
    _document_problems(app)
    app.add_middleware(Edge)
    return app


def _document_problems(app: FastAPI) -> None:
    """Say each problem status once, among the components, in place of FastAPI's own error form."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = plain()
            components = document["components"]
            for name in ("HTTPValidationError", "ValidationError"):
                components["schemas"].pop(name, None)
            _, definitions = models_json_schema([(ProblemView, "serialization")], ref_template=_REF)
            components["schemas"].update(definitions["$defs"])
            components["responses"] = {}
            for path in document["paths"].values():
                for operation in path.values():
                    _share_problems(operation["responses"], components["responses"])
        return app.openapi_schema or {}

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend the document


def _share_problems(responses: dict[str, Any], shared: dict[str, Any]) -> None:
    """FastAPI adds a 422 of its own to routes that declare none; ours answer those cases with 400."""
    for status in [status for status in responses if status >= "400"]:
        if MEDIA_TYPE in responses[status]["content"]:
            shared[f"Problem{status}"] = responses[status]
            responses[status] = {"$ref": f"#/components/responses/Problem{status}"}
        else:
            del responses[status]


_REF = "#/components/schemas/{model}"
