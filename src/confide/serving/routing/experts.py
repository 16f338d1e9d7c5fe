"""The small model and the experts of a configuration: servers, tools, and the small model asked again."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from confide.engines.openai.adapter_switch import sent_always
from confide.engines.openai.asked import Asked, text_of
from confide.engines.openai.exported_reader import READER, ExportedReader
from confide.engines.openai.model_error import ModelError
from confide.engines.openai.reading_check import ReadingCheck
from confide.engines.openai.reply import Choice, Model, Reply
from confide.engines.openai.request_fields import beyond, not_taken
from confide.engines.openai.second_reading import SecondReading
from confide.engines.openai.second_request import SecondRequest
from confide.engines.openai.server_config import Price, ServerModel
from confide.engines.openai.start_check import StartCheck
from confide.engines.openai.upstream import Http, Server, Sources
from confide.functions import load_function
from confide.methods.along.server_signals import ServerSignals
from confide.methods.answer_traffic import UnseenShare
from confide.methods.frozen.served_file import ServedFile
from confide.methods.learned_confidences import LearnedConfidences
from confide.methods.parts.part_reading import PartReading
from confide.methods.portable.portable_file import PORTABLE, PortableFile
from confide.methods.stack.served_stack import SERVED
from confide.policies.identities import PORTABLE_PART, identity_parts, identity_text, same_model
from confide.serving.api_errors import ApiError
from confide.serving.config import Expert, SelfExpert, ServeConfig, Small, SmallLocal, SmallServer, ToolExpert
from confide.serving.routing.canonical_text import canonical
from confide.serving.routing.embeddings import EmbeddingsServer
from confide.serving.routing.guard import Guarded
from confide.serving.routing.in_process import Batcher, Local
from confide.serving.routing.reply_parts import FieldsOfReplies
from confide.serving.routing.server_logprobs import server_sources
from confide.signals import FIELD

if TYPE_CHECKING:
    from confide.model import ConfidenceModel

_THREADS = 8


class Tool(Model):
    """A callable from messages to a text, run in threads of its own so that a slow one holds up nobody else."""

    def __init__(self, spec: str, drop: Collection[str] = ()):
        self._call = load_function(spec, "beside the configuration file")
        self._drop = drop
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="confide-tool")

    async def text(self, asked: Asked) -> str:
        """What the callable returns; raises `ModelError` when that is nothing, or it raises itself."""
        if not asked.plain:
            raise ModelError("unsupported", counts=False)
        try:
            text = await asyncio.get_running_loop().run_in_executor(self._threads, self._call, asked.messages)
        except Exception:
            raise ModelError("tool_error") from None
        if text is None:
            raise ModelError("no_answer", counts=False, abstains=True)
        if not isinstance(text, str) or not text.strip():
            raise ModelError("malformed")
        return text

    async def ask(self, asked: Asked) -> Reply:
        """The text as an answer; a field of the request that it knows nothing of sends the request on."""
        for name in beyond(asked.options):
            if name not in self._drop:
                raise ModelError("unsupported", counts=False, param=name)
        return Reply([Choice(await self.text(asked))])

    def close(self) -> None:
        """Let go of the threads; a call that hangs is left behind."""
        self._threads.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True, slots=True)
class WithPassage(Model):
    """The small model, asked again with a passage in front of the question."""

    small: Local | Server
    passage: Tool

    async def ask(self, asked: Asked) -> Reply:
        """The answer to the question with its passage; raises `ModelError` when there is none."""
        passage = await self.passage.text(asked)
        return await self.small.ask(replace(asked, messages=with_passage(asked.messages, passage), read=False))


@dataclass(frozen=True, slots=True)
class WithSamples(Model):
    """The small model's majority answer among several samples."""

    small: Local | Server
    count: int

    async def ask(self, asked: Asked) -> Reply:
        """The answer given most often; raises `ModelError` when the server does not sample."""
        if not asked.plain:
            raise ModelError("unsupported", counts=False)
        reply = await self.small.sample(replace(asked, read=False), self.count)
        if len(reply.choices) < 2:
            raise ModelError("unsupported")
        if not (answer := majority([choice.text for choice in reply.choices if choice.readable])):
            raise ModelError("no_answer", counts=False)
        return replace(reply, choices=[Choice(answer)])


class Models:
    """Everything that answers, as the configuration has it: the small model and the experts in order.

    Args:
        config: the configuration.
        model: the small model in this process (None: it runs on a server).
        below: signal to the value under which an answer of the small model ends while it is written.
    """

    def __init__(
        self, config: ServeConfig, model: ConfidenceModel | None = None, below: Mapping[str, float] | None = None
    ):
        self._config = config
        self._below = dict(below or {})
        self._http = Http()
        self._servers: list[Server] = []
        self._checking: list[asyncio.Task[None]] = []
        self._tools: list[Tool] = []
        self.model = model
        self.batcher: Batcher | None = None
        self.reading: ReadingCheck | None = None
        """Whether the small model's server gives its learned reading, where it is to."""
        self.exports: dict[str, str] = {}
        """Source to the identity of what was exported to give it."""
        self.signals: list[str] = []
        """The signals that the small model carries."""
        self._learned = LearnedConfidences()
        self.fields_by, self.field_source = "", ""
        """The identity of the small model with what gives confidences of fields, and the source that these have."""
        if model is not None and config.field_rules is not None:
            self.fields_by = model.identity
            if (carried := getattr(model, "part_readings", None)) is not None:
                self._know_fields(model.identity, carried.get(FIELD.name))
        small: Local | Server
        if isinstance(config.small, SmallLocal):
            if model is None:
                raise ValueError("the small model runs in this process and was not given")
            told, longest = config.field_rules is not None, config.small.max_prompt_tokens
            self.batcher = Batcher(model, config.small.batch, longest, self._below, fields=told)
            self.signals = list(model.signals)
            small = Local(config.small, self.batcher, model.identity)
            self.small = Guarded(config.small.name, small, price=config.small.price, deadline_s=config.deadline_s)
        else:
            small = self._small_server(config.small)
            self.small = self._guarded_server(config.small, self._second_reading(config.small, small))
        self.identity = small.identity
        """What is known of the small model's weights before it has answered."""
        self.experts = [self._expert(expert, small, config.price_of(expert)) for expert in config.experts]
        wanted = config.embeddings
        self.embeddings = self._guarded_server(wanted, EmbeddingsServer(wanted, self._http)) if wanted else None

    def _expert(self, expert: Expert, small: Local | Server, price: Price) -> Guarded:
        if isinstance(expert, ServerModel):
            return self._guarded_server(expert, self._server(expert))
        model: Model
        if isinstance(expert, ToolExpert):
            model = self._tool(expert.tool, expert.drop)
        elif expert.again.passage is not None:
            model = WithPassage(small, self._tool(expert.again.passage))
        else:
            assert expert.again.samples is not None
            model = WithSamples(small, expert.again.samples)
        deadline_s = self._config.deadline_s
        return Guarded(expert.name, model, price=price, timeout_s=expert.timeout_s, deadline_s=deadline_s)

    def _small_server(self, config: SmallServer) -> Server:
        """The server of the small model, with the learned confidences that come with its replies."""
        learned: dict[str, Any] = {}
        mixture = portable = served = None
        if config.reading is not None:
            served = ServedFile.load(config.reading)
            mixture, learned = served.mixture, {"reading": served.reading, "export": served.identity}
            self.exports[SERVED] = served.identity
            if served.signals:
                self.signals = [rule.signal for rule in served.signals]
                self.exports |= dict.fromkeys(self.signals, served.identity)
                learned["signals"] = ServerSignals(served.reading, served.signals, self._below)
        if config.portable is not None:
            portable = PortableFile.load(config.portable)
            self.exports[PORTABLE] = learned["beside"] = identity_text({PORTABLE_PART: portable.scored_by})
        self._learned = LearnedConfidences(mixture, portable)
        fields, columns = self._field_reading(served)
        told = FieldsOfReplies(fields, columns) if self._config.field_rules is not None else None
        sources = partial(server_sources, learned=self._learned, fields=told)
        learned["always"] = sent_always(config.engine, config.adapter)
        server = self._server(with_tokens_told(config), sources, **learned)
        self.reading = server.reading
        runs = identity_parts(server.identity) | identity_parts(served.identity if served else "")
        self._know_fields(identity_text(runs), fields)
        for file in (portable, fields.portable if fields and columns is None else None):
            if file is not None:
                file.check_server("" if self._accepted(server.identity) else server.identity)
        return server

    def _field_reading(self, served: ServedFile | None) -> tuple[PartReading | None, slice | None]:
        """What was learned of fields of the small server's replies, and its columns of what comes with them.

        A learned reading of the server's engine that knows of fields goes before a portable confidence.
        """
        if (rules := self._config.field_rules) is None:
            return None, None
        if served is not None and FIELD.name in served.parts:
            return served.parts[FIELD.name], served.reading.columns(FIELD.name)
        return (PartReading(FIELD.name, PortableFile.load(rules.portable)) if rules.portable else None), None

    def _know_fields(self, identity: str, reading: PartReading | None) -> None:
        """Set who tells fields: a model with this ``identity``, whose own ``portable`` is of whole answers."""
        parts = {name: part for name, part in identity_parts(identity).items() if name != PORTABLE_PART}
        beside = {PORTABLE_PART: reading.portable.scored_by} if reading else {}
        self.fields_by = identity_text(parts | beside)
        self.field_source = reading.source if reading else "logprob_sum"

    def _accepted(self, identity: str) -> bool:
        """Whether the operator says that the model with this ``identity`` may stand for another one."""
        return bool(self._config.accept_model) and same_model(self._config.accept_model, identity) is True

    def _second_reading(self, config: SmallServer, server: Server) -> Model:
        """The server of the small model, whose answers are read by a second request where it runs a reader."""
        if config.reader is None or config.adapter is None or config.engine == "openai":
            return server
        reader = ExportedReader.load(config.reader)
        self.exports[READER] = identity_text({"confidence": reader.scored_by})
        second = SecondRequest(
            config,
            self._http,
            reader,
            config.engine,
            config.adapter,
            chosen_ids="logprob_token_ids" in config.safe_to_ask,
        )
        read = SecondReading(config.name, server, second, config.timeout_s)
        self.reading = read.check
        return read

    def _server(self, config: ServerModel, sources: Sources | None = None, **learned: Any) -> Server:
        self._servers.append(server := Server(config, self._http, sources=sources, **learned))
        return server

    def _guarded_server(self, config: ServerModel, server: Model) -> Guarded:
        return Guarded(
            config.name,
            server,
            price=config.price,
            retries=config.retries,
            timeout_s=config.timeout_s,
            deadline_s=self._config.deadline_s,
        )

    def _tool(self, spec: str, drop: Collection[str] = ()) -> Tool:
        self._tools.append(tool := Tool(spec, drop))
        return tool

    @property
    def unseen(self) -> dict[str, UnseenShare]:
        """Of the small model's latest answers, what training never saw; empty where nothing was trained."""
        return self._learned.unseen if self.model is None else self.model.unseen

    @property
    def checks(self) -> list[StartCheck]:
        """What is known of the fields that each server does not take."""
        return [server.check for server in self._servers]

    def start(self) -> None:
        """Begin to check the servers; nobody waits for that."""
        self._checking = [asyncio.create_task(check.run()) for check in self.checks]
        if self.reading is not None:
            self._checking.append(asyncio.create_task(self.reading.run()))

    def check_fields(self, asked: Asked) -> None:
        """Refuse a field beyond OpenAI's that no expert can be asked with; raises `ApiError` (400) that names it.

        Whether a request is refused must not hang on whether the small answer is sure. Without experts, and in mode
        observe, the small model's word counts too.
        """
        config, extra = self._config, beyond(asked.options)
        if not extra:
            return
        wanted: list[tuple[Expert | Small, ...]] = [config.experts] if config.experts else []
        if not config.experts or config.mode == "observe":
            wanted.append((config.small,))
        for models in wanted:
            lacking = [_lacking(model, config.small, asked.options) for model in models]
            if None not in lacking:
                raise ApiError(400, f"no model behind this router can be asked with {lacking[0]}", param=lacking[0])

    async def close(self) -> None:
        """Close connections and threads."""
        for checking in self._checking:
            checking.cancel()
        await asyncio.gather(*self._checking, return_exceptions=True)
        await self._http.close()
        for tool in self._tools:
            tool.close()
        if self.batcher is not None:
            await asyncio.to_thread(self.batcher.close)


def with_tokens_told(config: SmallServer) -> SmallServer:
    """The server with the field that has the tokens of its answers told, where a reader reads them."""
    wanted = config.reader is not None and "return_token_ids" not in config.fields
    return config.model_copy(update={"fields": (*config.fields, "return_token_ids")}) if wanted else config


def _lacking(model: Expert | Small, small: Small, options: Collection[str]) -> str | None:
    """The first of a request's fields with which a model cannot be asked."""
    if isinstance(model, SelfExpert):
        model = small
    if isinstance(model, ServerModel):
        return not_taken(model, options)
    dropped = model.drop if isinstance(model, ToolExpert) else ()
    return next((name for name in beyond(options) if name not in dropped), None)


def with_passage(messages: list[dict[str, Any]], passage: str) -> list[dict[str, Any]]:
    """The conversation with ``passage`` in front of the last user turn's text."""
    last = max((at for at, message in enumerate(messages) if message["role"] == "user"), default=-1)
    if last < 0:
        return messages
    content = f"Context: {passage}\nQuestion: {text_of(messages[last]['content'])}"
    return [*messages[:last], {**messages[last], "content": content}, *messages[last + 1 :]]


def majority(texts: Sequence[str]) -> str:
    """The answer given most often by its canonical form, in its first spelling; of equally frequent ones the first.

    >>> majority(["Japan", "China", "japan."])
    'Japan'
    """
    forms = [canonical(text) for text in texts]
    counts = Counter(filter(None, forms))
    return texts[forms.index(max(counts, key=lambda form: counts[form]))].strip() if counts else ""
