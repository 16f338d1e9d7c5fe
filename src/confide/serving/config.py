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
from confide.serving.setting_errors import problem_of
from confide.signals import find_signal
from confide.yaml_files import beside, beside_or_name, read_yaml, store_beside


class SmallServer(ServerModel):
    """A small model on an OpenAI-compatible server; it must return log-probabilities of its tokens."""

    name: Name = "small"
    """What it is called in responses, headers, rows and metrics."""
    engine: Literal["openai", "vllm", "llama.cpp"] = "openai"
    """What runs it, where a ``reading`` or a ``reader`` is asked of it."""
    reading: Path | None = None
    """On vLLM with confide's plug-in: the folder that ``confide export --for vllm`` wrote (or its ``reading.json``)."""
    reader: Path | None = None
    """On stock vLLM or llama.cpp's server: the exported folder (or its ``reader.json``) that reads each answer again,
    by a second request of one token."""
    portable: Path | None = None
    """On any server: the folder of ``confide train portable`` (or its ``portable.json``); it costs no request."""
    adapter: str | None = Field(default=None, min_length=1, coerce_numbers_to_str=True)
    """The adapter of the ``reader``: its name on vLLM, its number on llama.cpp's server."""
    safe_to_ask: tuple[Literal["logprob_token_ids"], ...] = ()
    """Fields that have ended servers, sent only where they are named here: on a vLLM without speculative decoding a
    ``reader`` then needs one request, not two."""

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
    """A small model in this process: a trained folder, any model folder, or the bundled ``smollm2``."""

    model: str = Field(min_length=1)
    """The folder, or ``smollm2``."""
    name: Name = "small"
    """What it is called in responses, headers, rows and metrics."""
    max_tokens: int = Field(default=64, ge=1)
    """The longest answer when a request names no limit: write what ``confide annotate`` had."""
    max_prompt_tokens: int = Field(default=2048, ge=1)
    """The longest prompt that is read; a longer one goes to the first expert, or is a 400."""
    batch: int = Field(default=32, ge=1)
    """Requests answered at once with prompts of up to 512 tokens; half as many up to 1,024, and so on."""
    chat_template_kwargs: dict[str, Any] = Field(default_factory=dict)
    """What the chat template is given besides, such as ``enable_thinking: false``."""
    price: Price = Price()
    """What its tokens cost, in the currency of the experts."""


class ToolExpert(Part):
    """A Python callable from the messages to an answer, or None when it has none; it runs in a thread."""

    name: Name
    """What it is called in responses, headers, rows and metrics."""
    tool: str
    """``module:function``; the module is looked for beside the configuration, then in ``PYTHONPATH``."""
    price: Price = Price()
    """What its tokens cost."""
    timeout_s: Timeout = 30.0
    """Seconds after which it is given up."""
    drop: tuple[FieldName, ...] = ()
    """Fields that a request may have without passing it over, since it would not honour them."""


class Again(Part):
    """How the small model is asked again: one of the two."""

    passage: str | None = None
    """``module:function`` from the messages to a passage that is put in front of the question."""
    samples: int | None = Field(default=None, ge=2, le=64)
    """The number of answers of which the most frequent one is given."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.passage is None) == (self.samples is None):
            raise ValueError("give either passage or samples")
        return self


class SelfExpert(Part):
    """The small model, asked again with a passage or for several answers; it costs what the small model costs."""

    name: Name
    """What it is called in responses, headers, rows and metrics."""
    again: Again = Field(alias="self")
    """How it is asked again."""
    timeout_s: Timeout = 30.0
    """Seconds after which it is given up."""


class ServerExpert(ServerModel):
    """A stronger model on an OpenAI-compatible server."""


class Embeddings(ServerModel):
    """The server to which requests for embeddings pass."""

    name: Name = "embeddings"
    """What it is called in metrics."""


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
    """What is told, and decided, of the fields of an answer: values of its JSON, arguments of its tool calls."""

    policy: Path | None = None
    """A policy that was calibrated on records of fields (``confide parts``)."""
    required: tuple[str, ...] = ()
    """JSON pointers such as ``/year``, or ``tool/argument``: an answer escalates where one of these values is missing
    or below its threshold; without this list, where any of its fields is below."""
    portable: Path | None = None
    """The folder (or its ``portable.json``) that gives confidences of fields to a small model on a server; one in this
    process brings its own."""

    @model_validator(mode="after")
    def _pointers(self) -> Self:
        if self.required and self.policy is None:
            raise ValueError("required fields are held against thresholds: give the policy of fields")
        if wrong := next((name for name in self.required if "/" not in name), None):
            raise ValueError(f"required: {wrong!r} is no pointer; a field is written /year, an argument tool/argument")
        return self


class Limits(Part):
    """What one request, and all of them together, may ask for."""

    body_bytes: int = Field(default=1_000_000, ge=1)
    """The longest body of a request."""
    max_tokens: int = Field(default=4096, ge=1)
    """The most tokens that a request may ask for."""
    choices: int = Field(default=8, ge=1)
    """The most answers that a request may ask for (``n``)."""
    concurrency: int = Field(default=512, ge=1)
    """Requests worked on at once."""
    queue: int = Field(default=1024, ge=0)
    """Requests that may wait besides; others get 503."""
    connections: int = Field(default=4096, ge=1)
    """Connections open at once: more than concurrency and queue together, at most half the files that the process may
    open."""


class Audit(Part):
    """How many audits run at once and how many more may wait; beyond that they stay without a label."""

    concurrency: int = Field(default=16, ge=1)
    """Audits that run at once."""
    queue: int = Field(default=1024, ge=0)
    """Audits that may wait besides."""


Action = Literal["stop", "refuse", "escalate", "log"]


class Watch(Part):
    """A signal of the small model's answers, and what is done where it falls below the threshold of its policy."""

    signal: str
    """The signal, such as ``red_flag``."""
    policy: Path
    """A policy of ``confide calibrate --source SIGNAL --max-false-alarms``."""
    action: Action
    """``stop`` ends the answer and gives what was written, ``refuse`` gives a refusal instead, ``escalate`` asks the
    experts, ``log`` keeps a note."""

    @model_validator(mode="after")
    def _is_declared(self) -> Self:
        try:
            find_signal(self.signal)
        except ConfideError as error:
            raise ValueError(str(error)) from None
        return self


class LastResort(Part):
    """What a client gets for an escalated question when no expert answers it.

    What is left out is as the policy says (`confide calibrate --last-resort`); where that is ``error``, an expert
    without an answer makes the router abstain.
    """

    no_answer: Literal["abstain", "unverified"] | None = None
    """Where the experts were asked and have none, as a tool that knows nothing: a refusal, or the small model's answer,
    marked ``unverified``."""
    failed: Literal["error", "abstain", "unverified"] | None = None
    """Where every expert is down, or there is none."""


class ServeConfig(Part):
    """Everything ``confide serve`` needs to know; docs/reference/configuration.md is made of these words."""

    host: str = "127.0.0.1"
    """The address to listen on; any other than this machine's own needs ``api_keys``."""
    port: int = Field(default=8000, ge=0, le=65535)
    """The port to listen on; 0 takes a free one."""
    mode: Literal["act", "observe"] = "act"
    """``observe`` decides and stores, and always answers as the small model."""
    stream_mode: Literal["hold", "early"] = "hold"
    """``hold`` sends nothing before the decision, ``early`` the small answer while it is written."""
    policy: Path | None = None
    """A file of ``confide calibrate``; only ``mode: observe`` does without."""
    unlike: Literal["answer", "escalate"] = "answer"
    """What happens to requests unlike the calibration rows, and to answers of another model than the policy's: marked
    and decided as ever, or sent to an expert."""
    watch: tuple[Watch, ...] = ()
    """Signals that are read while the small model writes, and what is done where one falls."""
    accept_model: Annotated[str, AfterValidator(_check_identity)] = ""
    """The identity of a model that is taken for the policy's; the error at the start prints this line."""
    small: Small
    """The model that answers first: with ``base_url`` on a server, else in this process."""
    experts: tuple[Expert, ...] = ()
    """Who answers what escalates, in this order until one does."""
    last_resort: LastResort = LastResort()
    """What a client gets where no expert answers."""
    field_rules: Fields | None = Field(default=None, alias="fields")
    """What is told, and decided, of fields of an answer."""
    embeddings: Embeddings | None = None
    """The server to which ``/v1/embeddings`` passes; its keys are those of a server among the experts."""
    store: str = "sqlite:///confide.db"
    """``sqlite:///FILE`` or ``postgresql://user:password@host/database``."""
    store_text: bool = False
    """Whether questions and answers are kept, not only numbers."""
    audit_share: float = Field(default=0.02, ge=0, le=1)
    """The share of requests, drawn at random, that get both answers."""
    audit_label: Literal["expert", "feedback"] = "expert"
    """What labels an audit: agreement with the expert, or only feedback."""
    audit: Audit = Audit()
    """How many audits run and wait."""
    api_keys: tuple[ApiKey, ...] = ()
    """The keys that clients may use; without any, this machine alone may ask."""
    deadline_s: Timeout = 60.0
    """Seconds from the first byte of a request to the end of its answer, whatever happens in between."""
    limits: Limits = Limits()
    """What requests may ask for."""

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
            raise ConfideError(f"{path}: {problem_of(error, cls)}") from None


def is_loopback(host: str) -> bool:
    """Whether a server bound to ``host`` can be reached from this machine alone."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
