"""The routes of the router's application, and what they share."""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
import time
from typing import Any, Literal

from fastapi import APIRouter
from pydantic_core import to_json
from sqlalchemy import literal, select
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response

from confide.engines.openai.model_error import ModelError
from confide.engines.openai.reading_check import NOT_ASKED
from confide.policies.policy import Policy
from confide.serving.api_errors import ApiError
from confide.serving.api_keys import ApiKey
from confide.serving.config import ServeConfig, ServerExpert, SmallLocal
from confide.serving.http import messages_api, responses_api
from confide.serving.http.answer_parts import Wording
from confide.serving.http.dashboard import REFRESH_S, WINDOWS, content_security_policy, dashboard_page
from confide.serving.http.embeddings_api import EmbeddingsRequest, asked_embeddings, error_of
from confide.serving.http.error_responses import MESSAGES
from confide.serving.http.message_events import MessageEvents
from confide.serving.http.messages_api import MessagesRequest
from confide.serving.http.request_bodies import ChatRequest, CompletionRequest, FeedbackRequest, asked
from confide.serving.http.response_bodies import (
    Completion,
    FeedbackKept,
    MessageBody,
    MessagesErrorBody,
    ModelCard,
    ModelList,
    ResponseBody,
    errors,
)
from confide.serving.http.response_events import ResponseEvents
from confide.serving.http.responses_api import ResponsesRequest
from confide.serving.http.streams import ClientGoneError, EventStream, chat_events, while_connected, worded_events
from confide.serving.monitor.snapshot import snapshot
from confide.serving.routing.experts import Models
from confide.serving.routing.in_process import check_local
from confide.serving.routing.prometheus import Metrics
from confide.serving.routing.router import RETRY_S, Router
from confide.serving.routing.watching import Watching
from confide.serving.store.store import JudgedError, Store
from confide.serving.store.troubles import StoreError

routes = APIRouter()

_ID = re.compile(r"[\x21-\x7e]{1,128}")
_DOMAIN = re.compile(r"[\x20-\x7e]{1,64}")
_SNAPSHOT_S = 10.0
_PAGE_S = 6.0  # what reads or writes the store for a page or for feedback takes no longer
_SCRAPE_S = 2.0  # what /metrics waits for the store
_BODY_ERRORS = (400, 401, 403, 408, 413, 415, 421, 503)
_STREAM: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {}}}}
_COMPLETION = _STREAM | errors(*_BODY_ERRORS, 502, 504)
_MESSAGE = _STREAM | errors(*_BODY_ERRORS, 502, 504, model=MessagesErrorBody)


class Service:
    """What the routes share: the router, its models and store, and what is counted."""

    def __init__(self, config: ServeConfig, policy: Policy | None, models: Models, watching: Watching | None = None):
        self.config = config
        self.fields = config.fields  # put together once
        self.policy = policy
        self.metrics = Metrics()
        self.models = models
        self.store = Store.open(config.store)
        self.router = Router(config, self.models, policy, self.store, self.metrics, watching)
        named = [("confide", "confide")]
        if (embeddings := config.embeddings) is not None:
            named.append((embeddings.model, embeddings.name))
        self.cards = [ModelCard(id=id, created=int(time.time()), owned_by=owner) for id, owner in named]
        # Whether no server can answer what the small model in this process cannot (tools, formats, images).
        acts_on_servers = config.mode == "act" and any(isinstance(e, ServerExpert) for e in config.experts)
        self.only_local = isinstance(config.small, SmallLocal) and not acts_on_servers
        self._snapshots: dict[float | None, tuple[float, dict[str, Any]]] = {}
        self._lock = asyncio.Lock()

    def start(self) -> None:
        """Begin to watch the store, and to take up audits that nobody finished."""
        self.store.watch()
        self.router.auditor.watch()

    async def snapshot(self, window_s: float | None, seconds: float) -> dict[str, Any]:
        """What the store shows, read at most once in a few seconds however many ask.

        Raises `ApiError` where the store cannot be read within ``seconds``.
        """
        try:
            async with asyncio.timeout(seconds), self._lock:
                taken, state = self._snapshots.get(window_s, (-math.inf, {}))
                if time.monotonic() - taken > _SNAPSHOT_S:
                    unseen = self.models.unseen
                    state = await snapshot(self.store, self.policy, window_s=window_s, unseen=unseen)
                    self._snapshots[window_s] = time.monotonic(), state
                return state
        except StoreError as error:
            raise _no_store(error.trouble) from None
        except TimeoutError:
            raise _no_store("slow") from None

    async def close(self) -> None:
        """Let audits end, then close connections, threads and the store."""
        await self.router.close()
        await self.models.close()
        await self.store.close()


@routes.post("/v1/chat/completions", response_model=Completion, responses=_COMPLETION)
async def complete_chat(request: Request, body: ChatRequest) -> Response:
    """Answer a conversation, in OpenAI's chat API."""
    return await _answer(request, body)


@routes.post("/v1/completions", response_model=Completion, responses=_COMPLETION)
async def complete_text(request: Request, body: CompletionRequest) -> Response:
    """Answer a prompt, which is put as one user turn."""
    return await _answer(request, body)


@routes.post("/v1/responses", response_model=ResponseBody, responses=_COMPLETION)
async def respond(request: Request, body: ResponsesRequest) -> Response:
    """Answer in OpenAI's Responses API, as the chat request that asks the same would be."""
    return await _answer(request, responses_api.as_chat(body, _service(request).fields), ResponseEvents(body))


@routes.post(MESSAGES, response_model=MessageBody, responses=_MESSAGE)
async def answer_messages(request: Request, body: MessagesRequest) -> Response:
    """Answer in Anthropic's Messages API, as the chat request that asks the same would be."""
    return await _answer(request, messages_api.as_chat(body, _service(request).fields), MessageEvents())


@routes.post("/v1/embeddings", responses=errors(*_BODY_ERRORS, 404, 504))
async def embed(request: Request, body: EmbeddingsRequest) -> Response:
    """Pass a request for embeddings to the server that is configured for them."""
    service, key, deadline = _service(request), _key(request), request.state.deadline
    model = service.models.embeddings
    asks = asked_embeddings(body, service.config.embeddings, deadline=deadline, key=key.name if key else None)
    assert model is not None
    try:
        async with service.router.slots.hold(deadline):
            reply = await while_connected(request.receive, model.ask(asks))
    except ModelError as failure:
        service.metrics.failed(model.name, failure.kind)
        raise error_of(failure, asks) from None
    except ClientGoneError:
        return Response(status_code=499)
    return Response(reply.text, media_type="application/json")


@routes.post("/v1/feedback", responses=errors(*_BODY_ERRORS, 404, 409))
async def feedback(request: Request, body: FeedbackRequest) -> FeedbackKept:
    """Keep whether an answer was right; a key without the scope ``admin`` judges what it asked itself."""
    service, key = _service(request), _key(request)
    any_decision = key is None or key.may("admin")
    name = key.name if key else None
    asked_by = None if any_decision else name
    trusted = any_decision or service.config.audit_label == "feedback"
    try:
        note = body.note if service.config.store_text else None
        async with asyncio.timeout(_PAGE_S):
            known = await service.store.feedback(
                body.decision_id, body.correct, body.about, note, author=name, asked_by=asked_by, trusted=trusted
            )
    except StoreError as error:
        raise _no_store(error.trouble) from None
    except TimeoutError:
        raise _no_store("slow") from None
    except JudgedError:
        told = "another key has judged this decision; only one with the scope admin can overrule that"
        raise ApiError(409, told, code="judged", param="decision_id") from None
    if not known:
        raise ApiError(404, "there is no decision of this id", code="unknown_decision", param="decision_id")
    return FeedbackKept(decision_id=body.decision_id)


@routes.get("/v1/models", responses=errors(401, 421))
async def models(request: Request) -> ModelList:
    """List what clients see: the router, and the model of the embeddings where there is one."""
    return ModelList(data=_service(request).cards)


@routes.get("/v1/models/{model_id:path}", responses=errors(401, 404, 421))
async def model(request: Request, model_id: str) -> ModelCard:
    """Describe a model that clients see."""
    cards = {card.id: card for card in _service(request).cards}
    if model_id not in cards:
        told = f"the models here: {', '.join(cards)}"
        raise ApiError(404, told, code="model_not_found", param="model")
    return cards[model_id]


@routes.get("/healthz", responses=errors(421))
async def healthy() -> dict[Literal["status"], str]:
    """Say that the process answers."""
    return {"status": "ok"}


@routes.get("/readyz", responses=errors(421, 503))
async def ready(request: Request) -> dict[Literal["status", "reading"], str]:
    """Say whether requests can be answered: a row can be stored and read, and the small model's thread lives.

    Where a learned reading is wanted, its server was asked for it, and ``reading`` says whether it gives it; without it
    other confidences decide.
    """
    service = _service(request)
    batcher = service.models.batcher
    if batcher is not None and not batcher.alive:
        raise ApiError(503, "the small model has stopped", code="not_ready", retry_after=RETRY_S)
    try:
        async with asyncio.timeout(_PAGE_S):
            trouble = await service.store.check()
            await service.store.run(lambda connection: connection.execute(select(literal(1))).scalar())
    except StoreError as error:
        trouble = error.trouble
    except TimeoutError:
        trouble = "slow"
    if trouble is not None:
        raise _no_store(trouble)
    if (reading := service.models.reading) is None:
        return {"status": "ready"}
    if reading.problem == NOT_ASKED:  # what comes now would be decided without it
        raise ApiError(503, f"{reading.name} {NOT_ASKED}", code="not_ready", retry_after=1)
    return {"status": "ready", "reading": reading.problem or "there"}


@routes.get("/metrics", response_class=PlainTextResponse, responses=errors(401, 403, 421))
async def metrics(request: Request) -> Response:
    """Tell Prometheus how this process does, also while the store is away."""
    service = _service(request)
    router = service.router
    asked_models = [router.small, *router.experts, *filter(None, [service.models.embeddings])]
    slots, backlog = router.slots, router.auditor.backlog
    models = service.models
    service.metrics.observe(slots.active, slots.waiting, backlog, asked_models, models.checks, models.unseen)
    if (reading := service.models.reading) is not None:
        service.metrics.reading.labels(reading.name).set(reading.problem is None)
    state = None
    with contextlib.suppress(ApiError):  # while the store is away, what this process counted is wanted most
        state = await service.snapshot(WINDOWS["hour"], _SCRAPE_S)
    service.metrics.watch(state, service.store.trouble)
    return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


@routes.get("/", response_class=HTMLResponse, responses=errors(400, 401, 403, 421, 503))
async def dashboard(
    request: Request,
    window: Literal["hour", "day", "week", "all"] = "day",
    refresh: Literal["on", "off"] = "on",
) -> Response:
    """Show whether the promise holds: ``window`` is hour, day, week or all; ``refresh=off`` stops the reload."""
    state = await _service(request).snapshot(WINDOWS[window], _PAGE_S)
    page = dashboard_page(state, refresh_s=REFRESH_S if refresh == "on" else None)
    return HTMLResponse(page, headers={"Content-Security-Policy": content_security_policy()})


async def _answer(request: Request, body: ChatRequest | CompletionRequest, wording: Wording | None = None) -> Response:
    """The answer to a request, in another API's ``wording`` where one is given."""
    service, key, domain = _service(request), _key(request), _domain(request)
    request_id = request.headers.get("x-request-id", "")
    known_by = {
        "domain": domain,
        "request_id": request_id if _ID.fullmatch(request_id) else None,
        "key": key.name if key else None,
    }
    limits = service.config.limits
    try:
        question = asked(body, limits, deadline=request.state.deadline, fields=service.fields, **known_by)
        service.models.check_fields(question)
        if service.only_local:
            check_local(question)
        if not question.stream:
            completion, headers = await while_connected(request.receive, service.router.answer(question))
            told = completion if wording is None else wording.whole(completion)
            return Response(to_json(told), headers=headers, media_type="application/json")
        chunks = service.router.stream(question)
        headers = await while_connected(request.receive, anext(chunks))
    except ClientGoneError:
        return Response(status_code=499)
    except ApiError as error:
        raise error.renamed(wording.names if wording else {}) from None
    return EventStream(chat_events(chunks) if wording is None else worded_events(chunks, wording), headers)


def _domain(request: Request) -> str | None:
    """The domain that a request names, which chooses its threshold; raises `ApiError`."""
    named, key = request.headers.getlist("x-confide-domain"), _key(request)
    if len(named) > 1 or not all(map(_DOMAIN.fullmatch, named)):
        raise ApiError(400, "X-Confide-Domain is up to 64 ASCII characters, once", param="X-Confide-Domain")
    domain = next(iter(named), None)
    if key is not None and not key.may_name(domain):
        told = f"the key {key.name} may not name this domain; its domains stand in api_keys"
        raise ApiError(403, told, code="domain", param="X-Confide-Domain")
    return domain


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


def _key(request: Request) -> ApiKey | None:
    key: ApiKey | None = request.state.key
    return key


def _no_store(trouble: str) -> ApiError:
    return ApiError(503, f"the store cannot be used now: {trouble}", code="store", retry_after=RETRY_S)
