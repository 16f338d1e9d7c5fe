"""Safe writing: whole files or nothing, and one run a folder."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from confide.errors import ConfideError


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` so that a reader sees the old file or the whole new one, never half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            out.write(text)
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
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


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
