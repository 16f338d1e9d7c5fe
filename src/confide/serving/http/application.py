"""The HTTP side: an OpenAI-compatible application around the router."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response

from confide.engines.openai.exported_reader import READER
from confide.engines.openai.request_fields import CHAT_FIELDS, TEXT_FIELDS, allowed
from confide.errors import ConfideError
from confide.methods.free import FREE
from confide.methods.portable.portable_file import PORTABLE
from confide.methods.stack.served_stack import SERVED
from confide.policies.policy import Policy
from confide.serving.api_errors import ApiError
from confide.serving.config import ServeConfig, SmallLocal, SmallServer
from confide.serving.http.authentication import OPEN, SCOPES, SECURITY_HEADERS, Gate
from confide.serving.http.error_responses import error_response
from confide.serving.http.request_bodies import problem_of
from confide.serving.http.routes import Service, routes
from confide.serving.routing.experts import Models
from confide.serving.routing.likeness import Likeness
from confide.serving.routing.watching import Watched, Watching

if TYPE_CHECKING:
    from confide.model import ConfidenceModel

log = logging.getLogger("confide.serving")

_HTTP_ERRORS = {
    400: "the body is not valid JSON",
    404: "there is no such path",
    405: "this path does not take this method",
}


def create_app(config: ServeConfig, *, model: ConfidenceModel | None = None) -> FastAPI:
    """The application that ``confide serve`` runs.

    Args:
        config: the configuration.
        model: the small model, if it runs in this process; without it, the one that ``config`` names is loaded.

    Returns:
        A FastAPI application; its lifespan closes models and store.

    Raises:
        ConfideError: policy, model, keys, callables or store cannot be found, loaded or joined, or the policy was
            made for another model.
    """
    policy = Policy.load(config.policy) if config.policy else None
    if isinstance(config.small, SmallLocal) and model is None:
        from confide import load

        model = load(config.small.model, chat_template_kwargs=config.small.chat_template_kwargs)
    check_source(config, policy, model)
    watching = Watching(Watched.load(config), acts=config.mode == "act")
    models = Models(config, model, watching.below)
    watching.check(models.signals)
    for made in (policy, *(watched.policy for watched in watching.watched)):
        Likeness(config, made).check_start(models.identity, models.exports)
    service = Service(config, policy, models, watching)
    if config.api_keys and not any(key.may("read") for key in config.api_keys):
        log.warning(
            "no key in api_keys may open the dashboard and /metrics: write one as {name: …, hash: …, scopes: [read]}"
        )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        models.start()
        service.start()
        yield
        await service.close()

    app = FastAPI(
        title="confide",
        version=version("confide"),
        description="An OpenAI-compatible router: a small model answers, and hands over when it is not sure enough.",
        lifespan=lifespan,
        middleware=[Middleware(Gate, config=config)],
        exception_handlers=dict.fromkeys((ApiError, RequestValidationError, HTTPException, Exception), _on_error),
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.service = service
    app.include_router(routes)
    _describe(app.openapi(), config)
    return app


def check_source(config: ServeConfig, policy: Policy | None, model: ConfidenceModel | None) -> None:
    """Refuse a policy none of whose sources this small model ever gives, since everything would escalate.

    A model in process answers once, which also warms it up, and shows whether it tells fields. Raises `ConfideError`;
    a policy that was made for a model of another name is only warned of, since a server may call the same model
    otherwise.
    """
    if model is not None:
        with model.uncounted():
            told = model.answers(["Hello"], max_new_tokens=2, fields=config.field_rules is not None)
            given = list(told[0].sources)
    else:
        assert isinstance(config.small, SmallServer)
        small = config.small
        learned = {READER: small.reader, SERVED: small.reading, PORTABLE: small.portable}
        given = [source for source, file in learned.items() if file is not None]
        given += [source for source in FREE if source != "entropy"]
    absent = [source for source in policy.sources if source not in given] if policy else []
    if policy is not None and absent == policy.sources:
        raise ConfideError(
            f"the policy decides on {' or '.join(absent)}, which the small model {config.small.name} does not give; "
            f"it gives {', '.join(given)}"
        )
    for source in absent:
        log.warning("the small model %s never gives %s, a source of the policy", config.small.name, source)
    names = {config.small.name, config.small.model, *getattr(model, "names", ())}
    if policy is not None and policy.model and policy.model not in names:
        log.warning("the policy was made for answers of %s, not of %s", policy.model, " or ".join(sorted(names)))


async def _on_error(request: Request, error: Exception) -> Response:
    """Every error in the shape of the API that was asked.

    The traceback of a bug goes to the log; a client learns nothing from it.
    """
    if isinstance(error, RequestValidationError):
        error = _first_problem(error)
    elif isinstance(error, HTTPException):
        message = _HTTP_ERRORS.get(error.status_code, "bad request")
        error = ApiError(error.status_code, message, headers=error.headers or {})
    elif not isinstance(error, ApiError):
        error = ApiError(500, "internal error", headers=SECURITY_HEADERS)
    return error_response(error, request.url.path)


def _first_problem(error: RequestValidationError) -> ApiError:
    """The first problem of a request; it never repeats what was sent."""
    problem = error.errors()[0]
    place = problem["loc"][1:]  # without the word body or query
    if problem["type"] == "json_invalid" or (problem["type"] == "missing" and not place):
        return ApiError(400, _HTTP_ERRORS[400])
    return problem_of({**problem, "loc": place})


def _describe(schema: dict[str, Any], config: ServeConfig) -> None:
    """Add what FastAPI's OpenAPI description cannot know: limits, the need for a key, and that 422 is never given."""
    components, limits = schema["components"], config.limits
    for name in ("HTTPValidationError", "ValidationError"):
        del components["schemas"][name]
    sizes = ("max_tokens", "max_completion_tokens", "max_output_tokens")
    most = {"n": limits.choices, **dict.fromkeys(sizes, limits.max_tokens)}
    own = {"ChatRequest": CHAT_FIELDS, "CompletionRequest": TEXT_FIELDS}
    for name, fields in (own | dict.fromkeys(("ResponsesRequest", "MessagesRequest"), frozenset())).items():
        described = components["schemas"][name]
        described["additionalProperties"] = False
        properties = described["properties"]
        for field in sorted(allowed(fields, config.fields)):
            properties.setdefault(field, {})
        for key in most.keys() & properties.keys():
            properties[key].get("anyOf", [properties[key]])[0]["maximum"] = most[key]
    for operations in schema["paths"].values():
        for operation in operations.values():
            operation["responses"].pop("422", None)
    if config.api_keys:
        bearer = {
            "type": "http",
            "scheme": "bearer",
            "description": "on /v1/messages the bare key may stand in x-api-key",
        }
        components["securitySchemes"] = {"key": bearer}
        schema["security"] = [{"key": []}]
        for path in OPEN:
            schema["paths"][path]["get"]["security"] = []
        for path, scope in SCOPES.items():
            for operation in schema["paths"][path].values():
                operation["security"] = [{"key": [scope]}]
