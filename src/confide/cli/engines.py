"""Which engine runs a model: Transformers in this process, or an OpenAI-compatible endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from typer import Option

from confide.engines.openai.endpoint_config import EndpointConfig
from confide.errors import ConfideError

if TYPE_CHECKING:
    from confide.engines.engine import Engine
    from confide.engines.openai.openai_engine import OpenAIEngine
    from confide.methods.confidence_model import ConfidenceModel

EngineName = Annotated[
    Literal["transformers", "openai"],
    Option(help="What runs the model: this process, or an OpenAI-compatible server (`--base-url`)."),
]


def load_model(
    engine: str, endpoint: EndpointConfig, model: str, *, chat_template_kwargs: Mapping[str, Any] | None = None
) -> ConfidenceModel:
    """The model that ``engine`` runs, as something that answers with a confidence."""
    if engine == "openai":
        from confide.methods.endpoint_model import EndpointModel

        return EndpointModel(_on_endpoint(endpoint, model, chat_template_kwargs))
    _check_unused(endpoint)
    import confide

    return confide.load(model, chat_template_kwargs=chat_template_kwargs)


def load_engine(
    engine: str, endpoint: EndpointConfig, model: str, *, chat_template_kwargs: Mapping[str, Any] | None = None
) -> Engine:
    """The engine alone."""
    if engine == "openai":
        return _on_endpoint(endpoint, model, chat_template_kwargs)
    _check_unused(endpoint)
    from confide.engines.transformers.transformers_engine import TransformersEngine

    return TransformersEngine.load(model, chat_template_kwargs=chat_template_kwargs)


def load_judge(engine: str, endpoint: EndpointConfig, model: str, flag: str) -> Engine:
    """The engine of a model that is asked yes or no; raises `ConfideError` where its server cannot say how likely."""
    judge: Engine = load_model(engine, endpoint, model).engine
    if "next_tokens" not in judge.capabilities:
        raise ConfideError(f"{flag} {model}: its server tells no top_logprobs, so a yes or no cannot be read")
    return judge


def _on_endpoint(endpoint: EndpointConfig, model: str, template: Mapping[str, Any] | None) -> OpenAIEngine:
    from confide.engines.openai.openai_engine import OpenAIEngine

    return OpenAIEngine(endpoint, model, chat_template_kwargs=template)


def _check_unused(endpoint: EndpointConfig) -> None:
    if endpoint != EndpointConfig():
        raise ConfideError("--base-url and what belongs to it are for --engine openai")
