"""What a verb writes: checked before its work starts, so that no run ends without a place for what it made."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer

from confide.errors import ConfideError
from confide.files import check_folder, check_output, is_stream
from confide.yaml_files import NAMES

_NAMING = ("base", "from_store", "judge", "matrix", "model", "task", "verifier")
"""Parameters that are text and may name files."""

_FOLDERS = ("base", "judge", "model", "portable", "verifier")
"""Parameters that may name a folder, whose files are read."""


class Folder:
    """Marks an ``--out`` that is a folder, as in ``Annotated[Path, Option(...), Folder("results.json")]``.

    Args:
        files: names of the files that the verb writes there and that nobody may give it to read.
        when: the parameter with which it is a folder, where it is a file otherwise.
    """

    def __init__(self, *files: str, when: str = ""):
        self.files = files
        self.when = when


def check_out(values: Mapping[str, Any], hints: Mapping[str, Any], names: Mapping[str, str]) -> None:
    """Raise `ConfideError` where ``--out`` cannot be written, or is a file that the same run reads.

    Args:
        values: the verb's parameters.
        hints: their types, as they are annotated.
        names: what help calls them.
    """
    out = values.get("out")
    if not isinstance(out, Path):
        return
    folder = next((one for one in getattr(hints["out"], "__metadata__", ()) if isinstance(one, Folder)), None)
    if folder is not None and folder.when and values.get(folder.when) is None:
        folder = None
    if folder is None:
        check_output(out)
    elif out.exists() and not out.is_dir():
        raise ConfideError(f"{out} is a file, --out wants a folder")
    else:
        check_folder(out)
    files = [out / name for name in (folder.files if folder else ())]
    for file in files:
        check_output(file)
    for name, value in values.items():
        for path in _paths(name, value) if name != "out" else ():
            for target in (out, *files):
                if _same(path, target):
                    read = names.get(name, name)
                    raise ConfideError(f"--out would overwrite {target}, which is read as {read}: choose another")


def say(out: Path, text: str) -> None:
    """Print what was written to ``out``: on standard error where ``out`` itself may be standard output."""
    typer.echo(text, err=is_stream(out))


def _paths(name: str, value: Any) -> Iterator[Path]:
    """The paths that a parameter names: itself, the file of NAME=FILE, or that of a store."""
    if isinstance(value, Path):
        yield from _with_files(name, value)
    elif isinstance(value, list):
        for one in value:
            yield from _paths(name, one)
    elif isinstance(value, str) and value.strip() and name in _NAMING and value not in NAMES:
        path = Path(value.removeprefix("sqlite:///") if name == "from_store" else value.partition("=")[2] or value)
        yield from _with_files(name, path)


def _with_files(name: str, path: Path) -> Iterator[Path]:
    yield path
    if name in _FOLDERS and path.is_dir():
        yield from (file for file in path.iterdir() if file.suffix not in (".jsonl", ".parquet"))


def _same(one: Path, other: Path) -> bool:
    """Whether two paths are one file or folder, by whatever links and spellings; a device is never one."""
    try:
        return not is_stream(one) and os.path.samefile(one, other)
    except (OSError, ValueError):
        return False
