"""``--config FILE``: a YAML file whose keys are a verb's flags, read as if they were given on the command line."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import typer

from confide.cli.old_spellings import OLD, RECORDS, renamed, spellings, warn_of
from confide.errors import ConfideError
from confide.yaml_files import beside, beside_or_name, read_yaml, store_beside

PATHS_OR_NAMES = ("base", "model", "verifier", "judge", "task", "matrix")
"""Flags that are text, and may be a path."""


def config_flag(parameters: Sequence[inspect.Parameter]) -> inspect.Parameter:
    """The flag ``--config`` of a verb with these ``parameters``."""
    hints = {parameter.name: parameter.annotation for parameter in parameters}

    def read(context: typer.Context, path: Path | None) -> Path | None:
        if path is not None:
            context.default_map = _defaults(context, path, hints)
        return path

    option = typer.Option(
        "--config",
        is_eager=True,
        callback=read,
        help="YAML file whose keys are the flags; its paths start at its folder.",
    )
    return inspect.Parameter(
        "config", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[Path | None, option]
    )


def _defaults(context: typer.Context, path: Path, hints: Mapping[str, Any]) -> dict[str, Any]:
    """The file's values as defaults of the verb's parameters; flags on the command line win."""
    flags = {
        option.removeprefix("--").replace("-", "_"): str(parameter.name)
        for parameter in context.command.params
        for option in parameter.opts
        if parameter.name in hints
    }
    data = read_yaml(path)
    known = spellings(context.command)
    old = [flag for flag in map(_flag, data) if flag != "--records" and renamed(flag, known)]
    names = {_today(key, old).replace("-", "_"): value for key, value in data.items()}
    if len(names) < len(data):
        raise ConfideError(f"{path}: a flag is there twice, with - and with _")
    if unknown := sorted(set(names) - set(flags)):
        raise ConfideError(f"{path}: no such flag: {', '.join(unknown)}")
    warn_of(old)
    return {
        flags[name]: _as_given(path, name, _kinds(hints[flags[name]]), value)
        for name, value in names.items()
        if value is not None
    }


def _flag(key: object) -> str:
    """The flag of a key."""
    return f"--{key}".replace("_", "-")


def _today(key: object, old: Sequence[str]) -> str:
    """The key of today's spelling, where the flag of ``key`` is one of the ``old``."""
    now = OLD[_flag(key)] if _flag(key) in old else str(key)
    return "records" if now == RECORDS else now.removeprefix("--")


def _kinds(hint: Any) -> set[Any]:
    """The plain types in a hint: {Path, NoneType} of ``Annotated[Path | None, …]``, {list, str} of ``list[str]``."""
    parts = get_args(hint)
    if get_origin(hint) is Annotated:
        return _kinds(parts[0])
    return {get_origin(hint) or hint}.union(*map(_kinds, parts))


def _as_given(config: Path, name: str, kinds: set[Any], value: Any) -> Any:
    """A value of the file as the command line would give it; paths start at the folder of the file."""
    if list in kinds:
        several = value if isinstance(value, list) else [value]
        return [_as_given(config, name, kinds - {list}, one) for one in several]
    if isinstance(value, list):
        raise ConfideError(f"{config}: {name} takes one value, not a list")
    if isinstance(value, bool) and bool in kinds:
        return value
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ConfideError(f"{config}: {name} takes a text or a number (put it in quotes), not {value!r}")
    if Path in kinds:
        return str(beside(config, str(value)))
    if name == "from_store":
        return store_beside(config, str(value))
    if name == "grader":  # its module lies beside the file
        folder, _, function = str(value).rpartition("/")
        return f"{beside(config, folder or '.')}/{function}"
    if name not in PATHS_OR_NAMES:
        return str(value)
    label, sign, file = str(value).partition("=") if name == "matrix" else ("", "", str(value))
    return f"{label}{sign}{beside_or_name(config, file)}"
