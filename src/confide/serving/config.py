"""The router's configuration: one YAML file whose unknown keys are refused."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    model_validator,
)

from confide.arguments import as_path
from confide.engines.openai.adapter_switch import sent_always
from confide.engines.openai.server_config import FieldName, Name, Part, Price, ServerModel, Timeout
from confide.errors import ConfideError
from confide.policies.identities import identity_parts
from confide.serving.api_keys import ApiKey
from confide.signals import find_signal
from confide.yaml_files import beside, beside_or_name, read_yaml, store_beside


class SmallServer(ServerModel):
    """A small model on an OpenAI-compatible server; it must return log-probabilities of its tokens.

    ``engine`` is what runs it, where more is asked of it than of any other: vLLM with confide's plug-in gives the
    learned ``reading`` of a folder that ``confide export --for vllm`` wrote (the folder, or its ``reading.json``).
    Stock vLLM and llama.cpp's server run the ``reader`` of a folder that ``confide export`` wrote (the folder, or its
    ``reader.json``), which reads each answer by a second request; ``adapter`` is the LoRA adapter that reads, by its
    name on vLLM, its number on llama.cpp's server. Such fields as have ended servers are sent only where they are
    ``safe_to_ask``. On any server the ``portable`` confidence of a folder (or its ``portable.json``) can be had, of
    text and log-probabilities alone.
    """

    name: Name = "small"
    engine: Literal["openai", "vllm", "llama.cpp"] = "openai"
    reading: Path | None = None
    reader: Path | None = None
    portable: Path | None = None
    adapter: str | None = Field(default=None, min_length=1, coerce_numbers_to_str=True)
    safe_to_ask: tuple[Literal["logprob_token_ids"], ...] = ()

    @model_validator(mode="after")
    def _keeps_log_probabilities(self) -> Self:
        if "logprobs" in self.drop:
            raise ValueError("without logprobs the small model has no confidence, so they cannot be dropped")
        if self.reading is not None and self.engine != "vllm":
            raise ValueError("only vLLM with confide's plug-in gives a reading: write engine: vllm")
        if self.reader is not None and self.engine == "openai":
            raise ValueError("a reader is asked in the shapes of one kind of server: write engine: vllm or llama.cpp")
        if self.reader is not None and self.reading is not None:
            raise ValueError("a server runs the export of reading (with the plug-in) or that of reader: name one")
        if (self.adapter is None) != (self.reader is None):
            raise ValueError("a reader and the adapter that reads belong together: name both, or neither")
        try:
            sent_always(self.engine, self.adapter)
        except ConfideError as error:
            raise ValueError(str(error)) from None
        return self


class SmallLocal(Part):
    """A small model in this process: a trained folder, any model folder, or the bundled ``smollm2``.

    ``max_tokens`` is the longest answer when a request names no limit, ``max_prompt_tokens`` the longest prompt that is
    read, ``batch`` the most requests answered at once.
    ``chat_template_kwargs`` is what the chat template is given besides, such as ``enable_thinking: false``.
    """

    model: str = Field(min_length=1)
    name: Name = "small"
    max_tokens: int = Field(default=64, ge=1)
    max_prompt_tokens: int = Field(default=2048, ge=1)
    batch: int = Field(default=32, ge=1)
    chat_template_kwargs: dict[str, Any] = Field(default_factory=dict)
    price: Price = Price()


class ToolExpert(Part):
    """A Python callable ``module:function`` from messages to an answer, or None when it has none.

    Fields beyond OpenAI's that a request may have without being passed over are in ``drop``.
    """

    name: Name
    tool: str
    price: Price = Price()
    timeout_s: Timeout = 30.0
    drop: tuple[FieldName, ...] = ()


class Again(Part):
    """How the small model is asked again: with the ``passage`` of a callable, or for the majority of ``samples``."""

    passage: str | None = None
    samples: int | None = Field(default=None, ge=2, le=64)

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.passage is None) == (self.samples is None):
            raise ValueError("give either passage or samples")
        return self


class SelfExpert(Part):
    """The small model, asked again with a passage or for several answers; it costs what the small model costs."""

    name: Name
    again: Again = Field(alias="self")
    timeout_s: Timeout = 30.0


class ServerExpert(ServerModel):
    """A stronger model on an OpenAI-compatible server."""


class Embeddings(ServerModel):
    """The server to which requests for embeddings pass."""

    name: Name = "embeddings"


def _kind(value: Any, **kinds: str) -> str | None:
    """The class of a small model or an expert, by the key that only this class has."""
    if isinstance(value, BaseModel):
        return type(value).__name__
    return next((kind for key, kind in kinds.items() if isinstance(value, dict) and key in value), None)


Expert = Annotated[
    Annotated[ServerExpert, Tag("ServerExpert")]
    | Annotated[ToolExpert, Tag("ToolExpert")]
    | Annotated[SelfExpert, Tag("SelfExpert")],
    Discriminator(
        lambda value: _kind(value, base_url="ServerExpert", tool="ToolExpert", self="SelfExpert"),
        custom_error_type="expert",
        custom_error_message="an expert has base_url (a server), tool (a callable) or self (the small model again)",
    ),
]
Small = Annotated[
    Annotated[SmallServer, Tag("SmallServer")] | Annotated[SmallLocal, Tag("SmallLocal")],
    Discriminator(lambda value: _kind(value, base_url="SmallServer") or "SmallLocal"),
]


def _check_identity(identity: str) -> str:
    identity_parts(identity)
    return identity


class Fields(Part):
    """What is told, and decided, of the fields of an answer: values of its JSON, arguments of its tool calls.

    ``policy`` was calibrated on records of fields (`confide parts`); an answer escalates where one of the ``required``
    values is missing or below its threshold, without ``required`` where any of its fields is. ``portable`` is the
    folder (or its ``portable.json``) that gives confidences of fields to a small model on a server; one in this process
    brings its own.
    """

    policy: Path | None = None
    required: tuple[str, ...] = ()
    portable: Path | None = None

    @model_validator(mode="after")
    def _pointers(self) -> Self:
        if self.required and self.policy is None:
            raise ValueError("required fields are held against thresholds: give the policy of fields")
        if wrong := next((name for name in self.required if "/" not in name), None):
            raise ValueError(f"required: {wrong!r} is no pointer; a field is written /year, an argument tool/argument")
        return self


class Limits(Part):
    """What one request, and all of them together, may ask for.

    A request's body is at most ``body_bytes`` long; it may ask for ``max_tokens`` tokens and ``choices`` answers
    (``n``). ``concurrency`` requests are worked on at once, ``queue`` more may wait, others are turned away.
    ``connections`` may be open, those of requests that wait or are worked on included.
    """

    body_bytes: int = Field(default=1_000_000, ge=1)
    max_tokens: int = Field(default=4096, ge=1)
    choices: int = Field(default=8, ge=1)
    concurrency: int = Field(default=512, ge=1)
    queue: int = Field(default=1024, ge=0)
    connections: int = Field(default=4096, ge=1)


class Audit(Part):
    """How many audits run at once and how many more may wait; beyond that they stay without a label."""

    concurrency: int = Field(default=16, ge=1)
    queue: int = Field(default=1024, ge=0)


Action = Literal["stop", "refuse", "escalate", "log"]


class Watch(Part):
    """A signal of the small model's answers, and what is done where it falls below the threshold of its policy.

    ``stop`` ends the answer there and gives what was written, ``refuse`` gives a refusal instead, ``escalate`` asks the
    experts, and ``log`` keeps a note.
    """

    signal: str
    policy: Path
    action: Action

    @model_validator(mode="after")
    def _is_declared(self) -> Self:
        try:
            find_signal(self.signal)
        except ConfideError as error:
            raise ValueError(str(error)) from None
        return self


class LastResort(Part):
    """What a client gets for an escalated question when no expert answers it.

    ``no_answer`` is for experts that were asked and have none, as a tool that knows nothing: no answer (``abstain``, a
    refusal) or the small model's, marked ``unverified``. ``failed`` is for experts that are down, or of which there are
    none. What is left out is as the policy says (`confide calibrate --last-resort`); where that is ``error``, an expert
    without an answer makes the router abstain.
    """

    no_answer: Literal["abstain", "unverified"] | None = None
    failed: Literal["error", "abstain", "unverified"] | None = None


class ServeConfig(Part):
    """Everything ``confide serve`` needs to know; see docs/serving.md."""

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    mode: Literal["act", "observe"] = "act"
    stream_mode: Literal["hold", "early"] = "hold"
    policy: Path | None = None
    unlike: Literal["answer", "escalate"] = "answer"
    watch: tuple[Watch, ...] = ()
    accept_model: Annotated[str, AfterValidator(_check_identity)] = ""
    small: Small
    experts: tuple[Expert, ...] = ()
    last_resort: LastResort = LastResort()
    field_rules: Fields | None = Field(default=None, alias="fields")
    embeddings: Embeddings | None = None
    store: str = "sqlite:///confide.db"
    store_text: bool = False
    audit_share: float = Field(default=0.02, ge=0, le=1)
    audit_label: Literal["expert", "feedback"] = "expert"
    audit: Audit = Audit()
    api_keys: tuple[ApiKey, ...] = ()
    deadline_s: Timeout = 60.0
    limits: Limits = Limits()

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        models = [self.small, *self.experts, *([self.embeddings] if self.embeddings else [])]
        names = [model.name for model in models]
        if len(set(names)) < len(names):
            raise ValueError(f"names must differ: {', '.join(names)}")
        signals = [watch.signal for watch in self.watch]
        if len(set(signals)) < len(signals):
            raise ValueError("watch: a signal is watched by one policy")
        again = next((expert.name for expert in self.experts if isinstance(expert, SelfExpert)), None)
        if again is not None and any(watch.action != "log" for watch in self.watch):
            raise ValueError(f"watch: {again} asks the small model again, and that answer would not be watched")
        for what in ("name", "hash"):
            given = [getattr(key, what) for key in self.api_keys]
            if twice := {value for value in given if given.count(value) > 1}:
                raise ValueError(
                    f"api_keys: two keys have the {what} {min(twice)}; list a key once, under its own name"
                )
        if self.mode == "act" and self.policy is None:
            raise ValueError("mode act needs a policy; without one there is only mode: observe")
        if self.field_rules and self.field_rules.portable and isinstance(self.small, SmallLocal):
            raise ValueError("fields: portable is for a small model on a server; one in this process brings its own")
        if not self.api_keys and not is_loopback(self.host):
            raise ValueError(
                f"host {self.host} can be reached from other machines: set api_keys, or keep 127.0.0.1 "
                "(`confide serve --hash-key` makes the hash of a key)"
            )
        return self

    def price_of(self, expert: Expert) -> Price:
        """The price of an expert's tokens."""
        return self.small.price if isinstance(expert, SelfExpert) else expert.price

    @property
    def first_price(self) -> Price | None:
        """The price of the first expert's tokens (None: there is no expert)."""
        return self.price_of(self.experts[0]) if self.experts else None

    @property
    def fields(self) -> frozenset[str]:
        """The fields of a request, beyond OpenAI's, that some server takes."""
        servers = [model for model in (self.small, *self.experts) if isinstance(model, ServerModel)]
        return frozenset(name for server in servers for name in (*server.fields, *server.rename))

    @property
    def effective_audit_share(self) -> float:
        """The share of requests that are audited: none without an expert to compare with or feedback to wait for."""
        return self.audit_share if self.experts or self.audit_label == "feedback" else 0.0

    def _beside(self, path: Path) -> Self:
        """This configuration with paths as they are seen from the working folder, where ``path`` is its file."""
        changes: dict[str, Any] = {"store": store_beside(path, self.store)}
        if self.policy is not None:
            changes["policy"] = beside(path, str(self.policy))
        changes["watch"] = tuple(
            watch.model_copy(update={"policy": beside(path, str(watch.policy))}) for watch in self.watch
        )
        if rules := self.field_rules:
            own = {key: beside(path, str(value)) for key in ("policy", "portable") if (value := getattr(rules, key))}
            changes["field_rules"] = rules.model_copy(update=own)
        if isinstance(self.small, SmallLocal):
            changes["small"] = self.small.model_copy(update={"model": beside_or_name(path, self.small.model)})
        else:
            named = {key: getattr(self.small, key) for key in ("reading", "reader", "portable")}
            found = {key: beside(path, str(value)) for key, value in named.items() if value is not None}
            changes["small"] = self.small.model_copy(update=found)
        return self.model_copy(update=changes)

    @classmethod
    def load(cls, path: Path, **changes: Any) -> Self:
        """Read a YAML file; ``changes`` that are not None replace its keys. `ConfideError` names the first problem.

        Relative paths in it (policy, SQLite store, folder of the small model) start at the folder of the file.
        """
        path = as_path(path)
        data = read_yaml(path) | {key: value for key, value in changes.items() if value is not None}
        try:
            return cls.model_validate(data)._beside(path)
        except ValidationError as error:
            problem = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in problem["loc"] if not str(part).endswith(("Expert", "Local")))
            message = problem["msg"].removeprefix("Value error, ")
            raise ConfideError(f"{path}: {where + ': ' if where else ''}{message}") from None


def is_loopback(host: str) -> bool:
    """Whether a server bound to ``host`` can be reached from this machine alone."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
