"""Files: written whole or not at all, read with errors that name them; and a lock for one run per folder."""

from __future__ import annotations

import fcntl
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

from confide.errors import ConfideError


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` so that a reader sees the old file or the whole new one, never half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def read_text(path: Path) -> str:
    """Read a UTF-8 text file; a missing or undecodable file raises `ConfideError`."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfideError(f"{path} does not exist") from None
    except IsADirectoryError:
        raise ConfideError(f"{path} is a folder, a file is wanted") from None
    except UnicodeDecodeError as error:
        raise ConfideError(f"{path} is not UTF-8 text (byte {error.start})") from None


def read_parquet(path: Path) -> list[dict[str, Any]]:
    """Read the rows of a Parquet file; a missing file or one of another format raises `ConfideError`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.exists():
        raise ConfideError(f"{path} does not exist")
    try:
        rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    except pa.ArrowInvalid:
        raise ConfideError(f"{path} is not a Parquet file") from None
    return rows


def read_yaml_resource(package: str, name: str) -> Any:
    """Read a YAML file that is part of a package, such as ``("confide.tasks", "hub_tasks.yaml")``."""
    import yaml

    # The parser in C is ten times as fast; not every build of PyYAML has it.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(resources.files(package).joinpath(name).read_text(encoding="utf-8"), loader)


@contextmanager
def locked(folder: Path) -> Iterator[Path]:
    """Hold ``folder`` for this run alone; raises `ConfideError` while another run holds it.

    The lock is the operating system's, so a killed run leaves nothing behind that blocks the next one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w", encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfideError(f"{folder} is in use by another run") from None
        yield folder
