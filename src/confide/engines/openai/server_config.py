"""A model on an OpenAI-compatible server as a configuration file names it."""

from __future__ import annotations

import os
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from confide.errors import ConfideError

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,63}$")]
"""What a model or expert is called; it goes into headers and metrics."""


Timeout = Annotated[float, Field(gt=0, le=3600)]
"""Seconds."""


FieldName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,63}$")]
"""A field of a request's body."""


class Part(BaseModel):
    """A part of a configuration: unknown keys are refused, and nothing changes it later."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Price(Part):
    """Price of a million tokens, in any one currency."""

    input: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Of a million tokens that are read."""
    output: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Of a million tokens that are written."""

    def of(self, prompt_tokens: int, completion_tokens: int) -> float:
        """The price of this many tokens."""
        return (self.input * prompt_tokens + self.output * completion_tokens) / 1e6


class ServerModel(Part):
    """An OpenAI-compatible server: its address up to ``/v1``, the model to ask for, and how to ask."""

    name: Name
    """What it is called in responses, headers, rows and metrics; all names differ."""
    base_url: str
    """Its address up to ``/v1``, without user, password or query."""
    model: str = Field(min_length=1)
    """The model to ask it for."""
    api_key_env: str | None = None
    """The environment variable that holds its key."""
    price: Price = Price()
    """What its tokens cost, in any one currency."""
    timeout_s: Timeout = 30.0
    """Seconds without a sign of life after which an attempt is given up."""
    retries: int = Field(default=2, ge=0, le=10)
    """How often a request is sent again that was refused, broken off or met an overloaded server."""
    fields: tuple[FieldName, ...] = ()
    """Fields of a request, beyond OpenAI's, that it takes, such as ``top_k``; any other is a 400."""
    rename: dict[FieldName, FieldName] = Field(default_factory=dict)
    """Fields that it has another name for, such as ``max_tokens: max_completion_tokens``."""
    drop: tuple[FieldName, ...] = ()
    """Fields that it is not sent, such as ``seed``."""

    @model_validator(mode="after")
    def _sends_what_it_must(self) -> Self:
        named = [*self.fields, *self.rename, *self.rename.values(), *self.drop]
        if own := sorted({"model", "messages", "stream"}.intersection(named)):
            raise ValueError(f"every server is sent {own[0]}; it belongs in none of fields, rename and drop")
        if both := sorted(set(self.drop) & {*self.fields, *self.rename}):
            raise ValueError(f"{both[0]} is to be dropped and to be sent")
        return self

    @field_validator("base_url")
    @classmethod
    def _check_address(cls, url: str) -> str:
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

    @property
    def root(self) -> str:
        """The address of the server itself, beside its API."""
        return self.base_url.removesuffix("/v1")

    def api_key(self) -> SecretStr | None:
        """The key, read from the environment; raises `ConfideError` when the variable is not set."""
        if self.api_key_env is None:
            return None
        if not (key := os.environ.get(self.api_key_env, "").strip()):
            raise ConfideError(f"{self.name}: the environment variable {self.api_key_env} (api_key_env) is not set")
        if not key.isprintable():
            raise ConfideError(
                f"{self.name}: the key in {self.api_key_env} holds a line end or another control character"
            )
        return SecretStr(key)
