"""Which engine runs a model: Transformers in this process, or an OpenAI-compatible endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from typer import Option

from confide.engines.openai.endpoint_config import EndpointConfig
from confide.errors import ConfideError

if TYPE_CHECKING:
    from confide.engines.engine import Engine
    from confide.engines.openai.openai_engine import OpenAIEngine
    from confide.methods.confidence_model import ConfidenceModel
    from confide.methods.stack.served_file import ServedFile

EngineName = Annotated[
    Literal["transformers", "openai", "vllm"],
    Option(
        help="What runs the model: this process, or an OpenAI-compatible server (`--base-url`); `vllm`: one with "
        "confide's plug-in."
    ),
]


def load_model(
    engine: str, endpoint: EndpointConfig, model: str, *, chat_template_kwargs: Mapping[str, Any] | None = None
) -> ConfidenceModel:
    """The model that ``engine`` runs, as something that answers with a confidence."""
    if engine != "transformers":
        from confide.methods.endpoint_model import EndpointModel

        served = _served(engine, endpoint)
        return EndpointModel(_on_endpoint(endpoint, model, chat_template_kwargs, served), served)
    _check_unused(endpoint)
    import confide

    return confide.load(model, chat_template_kwargs=chat_template_kwargs)


def load_engine(
    engine: str, endpoint: EndpointConfig, model: str, *, chat_template_kwargs: Mapping[str, Any] | None = None
) -> Engine:
    """The engine alone."""
    if engine != "transformers":
        return _on_endpoint(endpoint, model, chat_template_kwargs, _served(engine, endpoint))
    _check_unused(endpoint)
    from confide.engines.transformers.transformers_engine import TransformersEngine

    return TransformersEngine.load(model, chat_template_kwargs=chat_template_kwargs)


def load_judge(engine: str, endpoint: EndpointConfig, model: str, flag: str) -> Engine:
    """The engine of a model that is asked yes or no; raises `ConfideError` where its server cannot say how likely."""
    judge: Engine = load_model(engine, replace(endpoint, reading=None), model).engine
    if "next_tokens" not in judge.capabilities:
        raise ConfideError(f"{flag} {model}: its server tells no top_logprobs, so a yes or no cannot be read")
    return judge


def _on_endpoint(
    endpoint: EndpointConfig, model: str, template: Mapping[str, Any] | None, served: ServedFile | None
) -> OpenAIEngine:
    from confide.engines.openai.openai_engine import OpenAIEngine

    if served is None:
        return OpenAIEngine(endpoint, model, chat_template_kwargs=template)
    return OpenAIEngine(endpoint, model, chat_template_kwargs=template, reading=served.reading, export=served.identity)


def _served(engine: str, endpoint: EndpointConfig) -> ServedFile | None:
    """What was exported for the engine, where its learned reading is wanted."""
    if endpoint.reading is None:
        return None
    if engine != "vllm":
        raise ConfideError("--reading is for --engine vllm, which gives it by confide's plug-in")
    from confide.methods.stack.served_file import ServedFile

    return ServedFile.load(Path(endpoint.reading))


def _check_unused(endpoint: EndpointConfig) -> None:
    if endpoint != EndpointConfig():
        raise ConfideError("--base-url and what belongs to it are for --engine openai or vllm")
