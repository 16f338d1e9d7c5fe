"""The router's configuration: one YAML file whose unknown keys are refused."""

from __future__ import annotations

import importlib
import ipaddress
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    SecretStr,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from confide.errors import ConfideError
from confide.files import read_text

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,63}$")]
"""What a model or expert is called; it goes into headers and metrics."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Price(_Part):
    """Price of a million tokens, in any one currency."""

    input: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    output: float = Field(default=0.0, ge=0, allow_inf_nan=False)

    def of(self, prompt_tokens: int, completion_tokens: int) -> float:
        """What so many tokens cost."""
        return (self.input * prompt_tokens + self.output * completion_tokens) / 1e6


class ServerModel(_Part):
    """An OpenAI-compatible server: where it is, which model to ask for, and how patient to be.

    ``timeout_s`` is the time without a sign of life after which one attempt is given up, ``retries`` how often a
    refused, broken or overloaded one is repeated.
    """

    name: Name
    base_url: str
    model: str = Field(min_length=1)
    api_key_env: str | None = None
    price: Price = Price()
    timeout_s: float = Field(default=30.0, gt=0, le=3600)
    retries: int = Field(default=2, ge=0, le=10)

    @field_validator("base_url")
    @classmethod
    def _plain(cls, url: str) -> str:
        try:
            parts = urlsplit(url)
            parts.port  # noqa: B018 (raises for a bad port)
        except ValueError:
            raise ValueError("not a URL") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("an http or https address with a host is wanted")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("no user, password, query or fragment belongs here; keys go into api_key_env")
        return url.rstrip("/")

    def api_key(self) -> SecretStr | None:
        """The key, read from the environment; raises `ConfideError` when the variable is not set."""
        if self.api_key_env is None:
            return None
        if not (key := os.environ.get(self.api_key_env, "").strip()):
            raise ConfideError(f"{self.name}: the environment variable {self.api_key_env} (api_key_env) is not set")
        return SecretStr(key)


class SmallServer(ServerModel):
    """A small model on an OpenAI-compatible server; it must return log-probabilities of its tokens."""

    name: Name = "small"


class SmallLocal(_Part):
    """A small model in this process: a trained folder, any model folder, or the bundled ``smollm2``.

    ``max_tokens`` is the room for an answer when a request does not say, ``batch`` the most requests answered at
    once.
    """

    model: str = Field(min_length=1)
    name: Name = "small"
    max_tokens: int = Field(default=64, ge=1)
    batch: int = Field(default=32, ge=1)
    price: Price = Price()


class ToolExpert(_Part):
    """A Python callable ``module:function`` from messages to an answer, or None when it has none."""

    name: Name
    tool: str
    price: Price = Price()
    timeout_s: float = Field(default=30.0, gt=0, le=3600)


class Again(_Part):
    """How the small model is asked again: with a ``passage`` from a callable, or for ``samples`` answers."""

    passage: str | None = None
    samples: int | None = Field(default=None, ge=2, le=64)

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.passage is None) == (self.samples is None):
            raise ValueError("give either passage or samples")
        return self


class SelfExpert(_Part):
    """The small model itself with more to go on."""

    name: Name
    again: Again = Field(alias="self")
    timeout_s: float = Field(default=30.0, gt=0, le=3600)


class ServerExpert(ServerModel):
    """A stronger model on an OpenAI-compatible server."""


def _kind(value: Any) -> str | None:
    if not isinstance(value, dict):
        return type(value).__name__ if isinstance(value, BaseModel) else None
    kinds = {"base_url": "ServerExpert", "tool": "ToolExpert", "self": "SelfExpert"}
    return next((kind for key, kind in kinds.items() if key in value), None)


def _small_kind(value: Any) -> str:
    if isinstance(value, BaseModel):
        return type(value).__name__
    return "SmallServer" if isinstance(value, dict) and "base_url" in value else "SmallLocal"


Expert = Annotated[
    Annotated[ServerExpert, Tag("ServerExpert")]
    | Annotated[ToolExpert, Tag("ToolExpert")]
    | Annotated[SelfExpert, Tag("SelfExpert")],
    Discriminator(
        _kind,
        custom_error_type="expert",
        custom_error_message="an expert has base_url (a server), tool (a callable) or self (the small model again)",
    ),
]
Small = Annotated[
    Annotated[SmallServer, Tag("SmallServer")] | Annotated[SmallLocal, Tag("SmallLocal")], Discriminator(_small_kind)
]


class Limits(_Part):
    """What one request, and all of them together, may ask for.

    ``body_bytes`` bounds a request's body, ``max_tokens`` the answer that it asks for, ``choices`` its ``n``.
    ``concurrency`` requests are worked on at once, ``queue`` more may wait; the rest is turned away.
    """

    body_bytes: int = Field(default=1_000_000, ge=1)
    max_tokens: int = Field(default=4096, ge=1)
    choices: int = Field(default=8, ge=1)
    concurrency: int = Field(default=512, ge=1)
    queue: int = Field(default=1024, ge=0)


class ServeConfig(_Part):
    """Everything ``confide serve`` needs to know; see docs/serving.md."""

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    mode: Literal["act", "observe"] = "act"
    stream_mode: Literal["hold", "early"] = "hold"
    policy: Path | None = None
    small: Small
    experts: tuple[Expert, ...] = ()
    store: str = "sqlite:///confide.db"
    store_text: bool = False
    audit_share: float = Field(default=0.02, ge=0, le=1)
    audit_label: Literal["expert", "feedback"] = "expert"
    api_keys: tuple[Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")], ...] = ()
    deadline_s: float = Field(default=60.0, gt=0, le=3600)
    limits: Limits = Limits()

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        names = [self.small.name, *(expert.name for expert in self.experts)]
        if len(set(names)) < len(names):
            raise ValueError(f"names must differ: {', '.join(names)}")
        if self.mode == "act" and self.policy is None:
            raise ValueError("mode act needs a policy; without one there is only mode: observe")
        if not self.api_keys and not is_loopback(self.host):
            raise ValueError(
                f"host {self.host} can be reached from other machines: set api_keys, or keep 127.0.0.1 "
                "(`confide serve --hash-key` makes the hash of a key)"
            )
        return self

    @classmethod
    def load(cls, path: Path, **changes: Any) -> Self:
        """Read a YAML file; ``changes`` that are not None replace its keys. `ConfideError` names the first problem."""
        import yaml

        try:
            data = yaml.safe_load(read_text(path)) or {}
        except yaml.YAMLError as error:
            raise ConfideError(f"{path} is not valid YAML: {error}") from None
        if not isinstance(data, dict):
            raise ConfideError(f"{path} must be a mapping of settings")
        data |= {key: value for key, value in changes.items() if value is not None}
        try:
            return cls.model_validate(data)
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


def load_callable(spec: str) -> Callable[..., Any]:
    """Import ``module:function``; raises `ConfideError` when there is no such callable."""
    module, _, name = spec.partition(":")
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # the console script leaves out the working folder, where one's own module lies
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfideError(f"cannot import {spec!r} (module:function is wanted): {error}") from None
    if not callable(found):
        raise ConfideError(f"{spec} is not callable")
    result: Callable[..., Any] = found
    return result
