"""The HTTP side: an OpenAI-compatible application around the router."""

from __future__ import annotations

import asyncio
import logging
import math
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from pydantic_core import to_json
from sqlalchemy import literal, select
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from confide.errors import ConfideError
from confide.methods.free import FREE
from confide.policies.policy import Policy
from confide.serving.config import ServeConfig, ServerExpert, SmallLocal
from confide.serving.http import openapi
from confide.serving.http.api_errors import ApiError
from confide.serving.http.authentication import Keys
from confide.serving.http.dashboard import REFRESH_S, WINDOWS, content_security_policy, dashboard_page
from confide.serving.http.event_stream import ClientGoneError, EventStream, while_connected
from confide.serving.http.gate import SECURITY_HEADERS, Gate, error_response, too_large
from confide.serving.http.request_bodies import Asked, ChatRequest, CompletionRequest, FeedbackRequest, asked, parse
from confide.serving.monitor.prometheus import Metrics
from confide.serving.monitor.snapshot import snapshot
from confide.serving.routing.experts import Models
from confide.serving.routing.in_process import InProcess, check_local
from confide.serving.routing.router import RETRY_S, Router
from confide.serving.store.store import Store, StoreError

log = logging.getLogger("confide.serving")

_ID = re.compile(r"[\x21-\x7e]{1,128}")
_DOMAIN = re.compile(r"[\x20-\x7e]{1,64}")
_SNAPSHOT_S = 10.0


def create_app(config: ServeConfig, *, model: InProcess | None = None) -> FastAPI:
    """The application for ``config``; ``model`` stands in for the small model that it names, if it runs in process.

    Raises `ConfideError` for whatever cannot be found, loaded or joined: policy, model, keys, callables, store.
    """
    policy = Policy.load(config.policy) if config.policy else None
    if isinstance(config.small, SmallLocal) and model is None:
        from confide import load

        model = load(config.small.model)
    check_source(config, policy, model)
    service = Service(config, policy, model)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await service.close()

    app = FastAPI(
        title="confide",
        version=version("confide"),
        description="An OpenAI-compatible router: a small model answers, and hands over when it is not sure enough.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.add_middleware(
        Gate,
        keys=Keys(config.api_keys),
        named=bool(config.api_keys),
        body_bytes=config.limits.body_bytes,
    )
    app.add_exception_handler(ApiError, _on_api_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(Exception, _on_bug)
    service.mount(app)
    app.openapi = openapi.describe(app, config)  # type: ignore[method-assign]
    return app


def check_source(config: ServeConfig, policy: Policy | None, model: InProcess | None) -> None:
    """Refuse a policy whose source this small model never gives, since everything would escalate.

    A model in process answers once, which also warms it up. Raises `ConfideError`; a policy that was made for a model
    of another name is only warned of, since a server may call the same model otherwise.
    """
    if model is not None:
        given = list(model.answers(["Hello"], max_new_tokens=2)[0].sources)
    else:
        given = [source for source in FREE if source != "entropy"]
    if policy is not None and policy.source not in given:
        raise ConfideError(
            f"the policy decides on {policy.source}, which the small model {config.small.name} does not give; "
            f"it gives {', '.join(given)}"
        )
    names = {config.small.name, config.small.model, *getattr(model, "names", ())}
    if policy is not None and policy.model and policy.model not in names:
        log.warning("the policy was made for answers of %s, not of %s", policy.model, " or ".join(sorted(names)))


class Service:
    """The routes, and what they share."""

    def __init__(self, config: ServeConfig, policy: Policy | None, model: InProcess | None):
        self._config = config
        self._policy = policy
        self._metrics = Metrics()
        self._models = Models(config, model)
        self._store = Store.open(config.store)
        self._router = Router(config, self._models.small, self._models.experts, policy, self._store, self._metrics)
        self._started = int(time.time())
        self._snapshots: dict[float | None, tuple[float, dict[str, Any]]] = {}
        self._looking = asyncio.Lock()

    @property
    def _can_hand_on(self) -> bool:
        """Whether a server can answer what the small model in this process cannot (tools, formats, images)."""
        return self._config.mode == "act" and any(isinstance(e, ServerExpert) for e in self._config.experts)

    def mount(self, app: FastAPI) -> None:
        """Add the routes to ``app``."""
        errors, takes = openapi.errors, openapi.takes
        asking = errors(400, 401, 408, 413, 415, 421, 502, 503, 504)
        events: dict[str, Any] = {"text/event-stream": {}}
        for path, endpoint, body, answer in (
            ("/v1/chat/completions", self.chat, ChatRequest, openapi.ChatCompletion),
            ("/v1/completions", self.complete, CompletionRequest, openapi.TextCompletion),
        ):
            app.add_api_route(
                path,
                endpoint,
                methods=["POST"],
                response_class=Response,
                openapi_extra=takes(body),
                responses={200: {"model": answer, "content": events}, **asking},
            )
        app.add_api_route(
            "/v1/feedback",
            self.feedback,
            methods=["POST"],
            openapi_extra=takes(FeedbackRequest),
            responses={200: {"model": openapi.FeedbackKept}, **errors(400, 401, 404, 408, 413, 415, 421, 503)},
        )
        app.add_api_route("/v1/models", self.models, responses={200: {"model": openapi.ModelList}, **errors(401, 421)})
        app.add_api_route(
            "/v1/models/{model_id}", self.model,
            openapi_extra={
                "parameters": [{"name": "model_id", "in": "path", "required": True, "schema": {"type": "string"}}]
            },
            responses={200: {"model": openapi.ModelCard}, **errors(401, 404, 421)},
        )  # fmt: skip
        app.add_api_route("/healthz", self.healthy, responses={200: {"model": openapi.Health}, **errors(421)})
        app.add_api_route("/readyz", self.ready, responses={200: {"model": openapi.Health}, **errors(421, 503)})
        text, html = ({kind: {"schema": {"type": "string"}}} for kind in ("text/plain", "text/html"))
        app.add_api_route(
            "/metrics", self.metrics, response_class=Response,
            responses={200: {"content": text}, **errors(401, 421)},
        )  # fmt: skip
        app.add_api_route(
            "/", self.dashboard, response_class=Response,
            openapi_extra=openapi.asks({"window": list(WINDOWS), "refresh": ["on", "off"]}),
            responses={200: {"content": html}, **errors(400, 401, 421, 503)},
        )  # fmt: skip

    async def chat(self, request: Request) -> Response:
        """Answer a conversation."""
        return await self._answer(request, ChatRequest)

    async def complete(self, request: Request) -> Response:
        """Answer a prompt, which is put as one user turn."""
        return await self._answer(request, CompletionRequest)

    async def feedback(self, request: Request) -> Response:
        """Keep whether an answer was right."""
        told = parse(FeedbackRequest, await self._body(request))
        try:
            note = told.note if self._config.store_text else None
            known = await self._store.feedback(told.decision_id, told.correct, told.about, note)
        except StoreError:
            raise _no_store() from None
        if not known:
            raise ApiError(404, "there is no decision of this id", code="unknown_decision", param="decision_id")
        return _json({"decision_id": told.decision_id, "stored": True})

    async def models(self) -> Response:
        """List the one model that clients see: the router."""
        card = {"id": "confide", "object": "model", "created": self._started, "owned_by": "confide"}
        return _json({"object": "list", "data": [card]})

    async def model(self, request: Request) -> Response:
        """Describe the one model that clients see."""
        if request.path_params["model_id"] != "confide":
            raise ApiError(404, "there is one model here: confide", code="model_not_found", param="model")
        return _json({"id": "confide", "object": "model", "created": self._started, "owned_by": "confide"})

    async def healthy(self) -> Response:
        """Say that the process answers."""
        return _json({"status": "ok"})

    async def ready(self) -> Response:
        """Say whether requests can be answered: the store can be read, and the small model's thread lives."""
        batcher = self._models.batcher
        if batcher is not None and not batcher.alive:
            raise ApiError(503, "the small model has stopped", code="not_ready", retry_after=RETRY_S)
        try:
            async with asyncio.timeout(5):
                await self._store.run(lambda connection: connection.execute(select(literal(1))).scalar())
        except (StoreError, TimeoutError):
            raise _no_store() from None
        return _json({"status": "ready"})

    async def metrics(self) -> Response:
        """Tell Prometheus how this process does."""
        slots, router = self._router.slots, self._router
        self._metrics.observe(slots.active, slots.waiting, [router.small, *router.experts])
        try:
            self._metrics.watch(await self._seen(WINDOWS["hour"]))
        except ApiError:  # while the store is away, what this process counted is wanted most
            self._metrics.watch(None)
        return Response(self._metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def dashboard(self, request: Request) -> Response:
        """Show how the promise holds: ``?window=`` hour, day, week or all, ``?refresh=off`` for a page that stays."""
        window, refresh = request.query_params.get("window", "day"), request.query_params.get("refresh", "on")
        if window not in WINDOWS or refresh not in ("on", "off"):
            told = f"window is one of {', '.join(WINDOWS)}, refresh is on or off"
            raise ApiError(400, told, param="window" if window not in WINDOWS else "refresh")
        page = dashboard_page(await self._seen(WINDOWS[window]), refresh_s=REFRESH_S if refresh == "on" else None)
        return Response(page, headers={"Content-Security-Policy": content_security_policy()}, media_type="text/html")

    async def close(self) -> None:
        """Let audits end, then close connections, threads and the store."""
        await self._router.close()
        await self._models.close()
        await self._store.close()

    async def _answer(self, request: Request, kind: type[ChatRequest] | type[CompletionRequest]) -> Response:
        deadline = asyncio.get_running_loop().time() + self._config.deadline_s
        what = self._asked(parse(kind, await self._body(request)), request, deadline)
        try:
            if not what.stream:
                served = await while_connected(request.receive, self._router.answer(what))
                return _json(served.body, served.headers)
            items = self._router.stream(what)
            headers = await while_connected(request.receive, anext(items))
        except ClientGoneError:
            return Response(status_code=499)
        return EventStream(items, headers)

    def _asked(self, body: ChatRequest | CompletionRequest, request: Request, deadline: float) -> Asked:
        headers = request.headers
        request_id, domain = headers.get("x-request-id", ""), headers.get("x-confide-domain")
        if domain is not None and not _DOMAIN.fullmatch(domain):
            raise ApiError(400, "X-Confide-Domain is up to 64 ASCII characters", param="X-Confide-Domain")
        what = asked(
            body,
            self._config.limits,
            deadline=deadline,
            domain=domain,
            request_id=request_id if _ID.fullmatch(request_id) else None,
        )
        if isinstance(self._config.small, SmallLocal) and not self._can_hand_on:
            check_local(what)
        return what

    async def _body(self, request: Request) -> bytes:
        """The request's body, within the limits of size and time."""
        most, size, found = self._config.limits.body_bytes, 0, []
        try:
            async with asyncio.timeout(self._config.deadline_s):
                async for piece in request.stream():
                    size += len(piece)
                    if size > most:
                        raise too_large(most)
                    found.append(piece)
        except TimeoutError:
            raise ApiError(408, "the body did not arrive in time", code="slow_body") from None
        except ClientDisconnect:
            raise ApiError(400, "the body broke off", code="broken_off") from None
        return b"".join(found)

    async def _seen(self, window_s: float | None) -> dict[str, Any]:
        """What the store shows, read at most once in a few seconds however many ask."""
        async with self._looking:
            taken, found = self._snapshots.get(window_s, (-math.inf, {}))
            if time.monotonic() - taken > _SNAPSHOT_S:
                try:
                    found = await snapshot(self._store, self._policy, window_s=window_s)
                except StoreError:
                    raise _no_store() from None
                self._snapshots[window_s] = time.monotonic(), found
            return found


def _json(body: dict[str, object], headers: dict[str, str] | None = None) -> Response:
    return Response(to_json(body), headers=headers, media_type="application/json")


def _no_store() -> ApiError:
    return ApiError(503, "the store does not answer", code="store", retry_after=RETRY_S)


async def _on_api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return error_response(error)


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    told = {404: "there is no such path", 405: "this path does not take this method"}
    headers = dict(error.headers or {})
    return error_response(ApiError(error.status_code, told.get(error.status_code, "bad request"), headers=headers))


async def _on_bug(request: Request, error: Exception) -> Response:
    # The traceback goes to the log; a client learns nothing from it.
    return error_response(ApiError(500, "internal error", headers=dict(SECURITY_HEADERS)))
