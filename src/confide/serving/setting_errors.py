"""The first problem of a configuration, as a sentence: which setting, and what is wrong with it."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel, ValidationError


def problem_of(error: ValidationError, settings: type[BaseModel]) -> str:
    """The first problem that ``error`` tells of ``settings``; of a name that is unknown, the known one nearest to it.

    >>> class Port(BaseModel, extra="forbid"):
    ...     port: int = 80
    >>> try:
    ...     _ = Port.model_validate({"prot": 8000})
    ... except ValidationError as error:
    ...     print(problem_of(error, Port))
    prot: unknown setting; did you mean port?
    """
    problems = error.errors(include_url=False, include_input=False)
    # A name that is misspelt is missing, too.
    problem = next((one for one in problems if one["type"] == "extra_forbidden"), problems[0])
    # Of several kinds of a setting pydantic names the one that it tried.
    where = [part for part in problem["loc"] if not str(part).endswith(("Expert", "Local"))]
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        name, known = str(where[-1]), sorted(_known(settings, where[:-1]))
        near = difflib.get_close_matches(name, known, 1)
        if name in known:
            message = "unknown here; it is a setting of another kind"
        else:
            message = "unknown setting; " + (f"did you mean {near[0]}?" if near else f"there are: {', '.join(known)}")
    told = ".".join(map(str, where))
    return f"{told}: {message}" if told else message


def _known(settings: type[BaseModel], where: list[int | str]) -> set[str]:
    """The names that may stand at a place of ``settings``, of all kinds that a setting there can have."""
    models = [settings]
    for name in where:
        if isinstance(name, str):
            fields = [f for m in models for key, f in m.model_fields.items() if name in (key, f.alias)]
            models = [inner for field in fields for inner in _models_in(field.annotation)] or models
    return {field.alias or key for model in models for key, field in model.model_fields.items()}


def _models_in(kind: Any) -> Iterator[type[BaseModel]]:
    """The models among the types that an annotation is made of."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind
    for inner in get_args(kind):
        yield from _models_in(inner)
