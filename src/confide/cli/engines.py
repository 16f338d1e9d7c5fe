"""Which engine runs a model: Transformers in this process, or an OpenAI-compatible endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from typer import Option

from confide.engines.openai.endpoint_config import EndpointConfig
from confide.errors import ConfideError
from confide.files import is_stream
from confide.progress import progress_bar

if TYPE_CHECKING:
    from confide.engines.engine import Engine
    from confide.engines.openai.exported_reader import ExportedReader
    from confide.engines.openai.openai_engine import OpenAIEngine
    from confide.engines.openai.second_request import SecondEngine
    from confide.methods.confidence_model import ConfidenceModel
    from confide.methods.frozen.served_file import ServedFile

EngineName = Annotated[
    Literal["transformers", "openai", "vllm", "llama.cpp"],
    Option(
        help="What runs the model: this process, or an OpenAI-compatible server (`--base-url`); `vllm` and `llama.cpp` "
        "where more is asked of it (`--reading`, `--reader`)."
    ),
]

DEFAULT_MODEL = "smollm2"
"""The model of every verb that runs one, where none is named: the bundled one."""

Judge = Annotated[
    str | None, Option(help="A model that says whether an answer is right where no grader can; its error is measured.")
]

PortableFolder = Annotated[
    Path | None,
    Option(help="The source `portable` by this folder of `confide train portable`, or its portable.json."),
]


def load_model(
    engine: str,
    endpoint: EndpointConfig,
    model: str,
    *,
    portable: Path | None = None,
    chat_template_kwargs: Mapping[str, Any] | None = None,
) -> ConfidenceModel:
    """The model that ``engine`` runs, as something that answers with a confidence."""
    if engine != "transformers":
        from confide.methods.endpoint_model import EndpointModel
        from confide.methods.portable.portable_file import PortableFile

        reader, served = _reader(engine, endpoint), _served(engine, endpoint)
        learned = PortableFile.load(portable) if portable else None
        asked = _on_endpoint(engine, endpoint, model, chat_template_kwargs, served, reader)
        return EndpointModel(asked, served, reader, learned)
    check_unused(endpoint)
    if portable is not None:
        raise ConfideError(
            "--portable is for --engine openai, vllm or llama.cpp: a model in this process has one of its own, which "
            "`confide train stack` leaves beside it"
        )
    import confide

    return confide.load(model, chat_template_kwargs=chat_template_kwargs)


def load_engine(
    engine: str, endpoint: EndpointConfig, model: str, *, chat_template_kwargs: Mapping[str, Any] | None = None
) -> Engine:
    """The engine alone."""
    if engine != "transformers":
        reader, served = _reader(engine, endpoint), _served(engine, endpoint)
        return _on_endpoint(engine, endpoint, model, chat_template_kwargs, served, reader)
    check_unused(endpoint)
    from confide.engines.transformers.transformers_engine import TransformersEngine

    return TransformersEngine.load(model, chat_template_kwargs=chat_template_kwargs)


def load_judge(engine: str, endpoint: EndpointConfig, model: str, flag: str) -> Engine:
    """The engine of a model that is asked yes or no; raises `ConfideError` where its server cannot say how likely."""
    # llama.cpp's server answers with the weights that it has, under any name: an adapter stays switched off there.
    adapter = endpoint.adapter if engine == "llama.cpp" else None
    judge: Engine = load_model(engine, replace(endpoint, reading=None, reader=None, adapter=adapter), model).engine
    if "next_tokens" not in judge.capabilities:
        raise ConfideError(f"{flag} {model}: its server tells no top_logprobs, so a yes or no cannot be read")
    return judge


def judge_of_rows(engine: str, endpoint: EndpointConfig, judge: str | None, out: Path) -> Engine | None:
    """The judge that is asked once the rows of ``out`` are there; None without one."""
    if judge is None:
        return None
    if is_stream(out):
        raise ConfideError(f"--judge {judge} adds verdicts to the records once they are there: --out must be a file")
    return load_judge(engine, endpoint, judge, "--judge")


def judged_rows(judge: Engine | None, out: Path) -> int:
    """Add the verdicts of a judge to the records in ``out``; how many answers got none."""
    from confide.methods.answer_judge import judge_file

    if judge is None:
        return 0
    with progress_bar("judging") as progress:
        return judge_file(judge, out, progress)


def _on_endpoint(
    engine: str,
    endpoint: EndpointConfig,
    model: str,
    template: Mapping[str, Any] | None,
    served: ServedFile | None,
    reader: ExportedReader | None,
) -> OpenAIEngine:
    from confide.engines.openai.adapter_switch import sent_always
    from confide.engines.openai.openai_engine import OpenAIEngine
    from confide.engines.openai.second_request import SecondRequest

    learned: dict[str, Any] = {} if served is None else {"reading": served.reading, "export": served.identity}
    if served is not None and served.signals:
        from confide.methods.along.server_signals import ServerSignals

        learned["signals"] = ServerSignals(served.reading, served.signals, {})
    learned["always"] = sent_always(engine, endpoint.adapter)
    if reader is not None:
        learned["second"] = partial(
            SecondRequest,
            reader=reader,
            engine=cast("SecondEngine", engine),
            adapter=cast("str", endpoint.adapter),
            chosen_ids="logprob_token_ids" in endpoint.safe,
            concurrency=endpoint.concurrency,
            retries=endpoint.retries,
        )
    return OpenAIEngine(endpoint, model, chat_template_kwargs=template, **learned)


def _served(engine: str, endpoint: EndpointConfig) -> ServedFile | None:
    """What was exported for the engine, where its learned reading is wanted."""
    if endpoint.reading is None:
        return None
    if engine != "vllm":
        raise ConfideError("--reading is for --engine vllm, which gives it by confide's plug-in")
    from confide.methods.frozen.served_file import ServedFile

    return ServedFile.load(Path(endpoint.reading))


def _reader(engine: str, endpoint: EndpointConfig) -> ExportedReader | None:
    """The exported reader that the server runs, where its confidence is wanted."""
    if endpoint.reader is None:
        if endpoint.adapter is not None and engine != "llama.cpp":
            raise ConfideError("--adapter names what reads, so it needs --reader")
        return None
    if engine not in ("vllm", "llama.cpp"):
        raise ConfideError("--reader is for --engine vllm and --engine llama.cpp, whose second requests are known")
    if endpoint.reading is not None:
        raise ConfideError("a server runs the export of --reading (with the plug-in) or that of --reader: name one")
    if endpoint.adapter is None:
        raise ConfideError("--reader needs --adapter: the adapter's name on vLLM, its number on llama.cpp's server")
    from confide.engines.openai.exported_reader import ExportedReader

    return ExportedReader.load(Path(endpoint.reader))


def check_unused(endpoint: EndpointConfig) -> None:
    """Raise `ConfideError` where flags of an endpoint are given to an engine that is none."""
    if endpoint != EndpointConfig():
        raise ConfideError("--base-url and what belongs to it are for --engine openai, vllm or llama.cpp")
