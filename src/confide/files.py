"""Files: read with errors that name them, written whole or not at all; and locks for one run at a time."""

from __future__ import annotations

import os
import re
import shutil
import socket
import stat
import sys
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from confide.errors import ConfideError

_LOCKED_BYTE = 1 << 30
_MOST_LINKS = 40
_WRITABLE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH


def read_bytes(path: Path) -> bytes:
    """Read a file; `ConfideError` says why it cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ConfideError(f"{path} does not exist") from None
    except IsADirectoryError:
        raise ConfideError(f"{path} is a folder, a file is wanted") from None
    except OSError as error:
        raise ConfideError(f"{path} cannot be read: {error.strerror}") from None


def read_text(path: Path) -> str:
    """Read a UTF-8 text file, without its byte order mark; a missing or undecodable file raises `ConfideError`."""
    return decoded(read_bytes(path), path)


def decoded(data: bytes, path: Path) -> str:
    """The text of a file's bytes; raises `ConfideError` where they are no UTF-8 text."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ConfideError(f"{path} is UTF-16 text, not UTF-8: save it as UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfideError(f"{path} is not UTF-8 text (byte {error.start})") from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise ConfideError(f"{path}, line {line}: a NUL byte, so this is no text, or text that is not UTF-8")
    return text


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` so that a reader sees the old file or the whole new one, never half."""
    with written(path) as part:
        part.write_bytes(text.encode("utf-8"))


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write ``lines`` as `write_text` does, without holding them all."""
    with written(path) as part, part.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{line}\n" for line in lines)


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """Give a temporary file to write; it takes the place of ``path`` at the end, or nothing changes.

    A link stays, and its target is replaced. A file that was there keeps its mode. What is written to a device or a
    pipe goes through it.

    Raises:
        ConfideError: ``path`` is a folder or read-only, or the disk is full.
    """
    check_output(path)
    streamed = is_stream(path)
    target = path if streamed else Path(os.path.realpath(path))
    part = Path(tempfile.gettempdir() if streamed else target.parent, f".{uuid.uuid4().hex[:12]}.part")
    try:
        with _told(path):
            part.parent.mkdir(parents=True, exist_ok=True)
            part.touch(exist_ok=False)
            mode = stat.S_IMODE(part.stat().st_mode)
            yield part
            if streamed:
                with open_stream(path) as stream, open(part, "rb") as source:
                    shutil.copyfileobj(source, stream)
            else:
                _replace(part, target, mode)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def written_folder(folder: Path, last: str) -> Iterator[Path]:
    """Give a temporary folder to fill; what is in it moves to ``folder`` at the end.

    One run at a time may do so (`locked`).

    Args:
        folder: where files go; others that it holds stay there.
        last: the file that moves last and whose older version is removed first, so that a folder with it is whole.
    """
    part = folder / ".part"
    moving = False
    try:
        with _told(folder):
            shutil.rmtree(part, ignore_errors=True)  # of a run that was killed
            part.mkdir(parents=True)
            mode = stat.S_IMODE(part.stat().st_mode) & 0o666
            yield part
            moving = True
            (folder / last).unlink(missing_ok=True)
            for path in sorted(part.iterdir(), key=lambda path: (path.name == last, path.name)):
                if path.is_dir():
                    shutil.rmtree(folder / path.name, ignore_errors=True)
                    path.replace(folder / path.name)
                else:
                    _replace(path, folder / path.name, mode)
            moving = False
    finally:
        if not moving:  # what is left of a move that failed tells that the folder is not whole
            shutil.rmtree(part, ignore_errors=True)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Tell what goes wrong in writing ``path``, such as a full disk, as a `ConfideError`."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise ConfideError(f"{path} cannot be written: {error.strerror or error}") from error
    except Exception as error:
        if type(error).__name__ != "SafetensorError":
            raise
        raise ConfideError(f"{path} cannot be written: {error}") from error


def check_output(path: Path) -> None:
    """Raise `ConfideError` where no file can be written at ``path``: a folder, a read-only file or folder."""
    if is_stream(path):
        return
    if path.is_dir():
        raise ConfideError(f"{path} is a folder, a file is wanted")
    # Root may write to every file, but a file without a write bit is one that somebody wants to keep.
    if path.exists() and not (path.stat().st_mode & _WRITABLE and os.access(path, os.W_OK)):
        raise ConfideError(f"{path} is read-only")
    check_folder(Path(os.path.realpath(path)).parent)


def check_folder(folder: Path) -> None:
    """Raise `ConfideError` where ``folder`` is none, cannot be made or cannot be written to."""
    near = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not near.is_dir():
        raise ConfideError(f"{near} is a file, a folder is wanted")
    if not os.access(near, os.W_OK | os.X_OK):
        raise ConfideError(f"the folder {near} is read-only")


def is_stream(path: Path) -> bool:
    """Whether ``path`` is a device, a pipe or a socket, or names an open file such as ``/dev/stdout``."""
    if _descriptor(path) is not None:
        return True
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def open_stream(path: Path) -> BinaryIO:
    """Open a device or a pipe for writing, without a buffer."""
    if (number := _descriptor(path)) is None:
        return open(path, "wb", buffering=0)
    # Opened by its name, a file that standard output goes to would be written from its start again.
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    return open(os.dup(number), "wb", buffering=0)


def _descriptor(path: Path) -> int | None:
    """The number of the open file that a path such as ``/dev/stdout`` or ``/dev/fd/3`` names, also by links."""
    for _ in range(_MOST_LINKS):
        if match := re.fullmatch(r"/dev/(?P<name>stdout|stderr)|(/dev|/proc/self)/fd/(?P<number>\d+)", str(path)):
            return {"stdout": 1, "stderr": 2}[match["name"]] if match["name"] else int(match["number"])
        if not path.is_symlink():
            return None
        path = path.parent / path.readlink()
    return None


def _replace(part: Path, target: Path, mode: int) -> None:
    """Move ``part`` to ``target``, with the mode and the owner of what is there, or else with ``mode``."""
    with suppress(FileNotFoundError):
        old = target.stat()
        mode = stat.S_IMODE(old.st_mode)
        if sys.platform != "win32":
            with suppress(OSError):  # only root may give files away
                os.chown(part, old.st_uid, old.st_gid)
    with open(part, "rb") as handle:
        os.fsync(handle.fileno())
    part.chmod(mode)
    part.replace(target)


@contextmanager
def locked(folder: Path) -> Iterator[Path]:
    """Hold ``folder`` for this run alone; raises `ConfideError` that says which other run holds it."""
    with _held(folder / ".lock", folder):
        yield folder


@contextmanager
def locked_file(path: Path) -> Iterator[Path]:
    """Hold the file ``path`` for this run alone, by any of its spellings; other files of its folder stay free."""
    if is_stream(path):
        yield path
        return
    real = Path(os.path.realpath(path))
    with _held(real.with_name(f".{real.name}.lock"), path):
        yield path


@contextmanager
def _held(lock: Path, what: Path) -> Iterator[None]:
    """Hold the lock file ``lock``, which says who holds it and is gone afterwards.

    The lock is the operating system's, so a killed run leaves nothing behind that blocks the next one.
    """
    with _told(what):
        lock.parent.mkdir(parents=True, exist_ok=True)
        handle = _lock(lock, what)
    try:
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        with suppress(OSError):  # on a full disk the lock holds all the same
            os.ftruncate(handle, 0)
            os.lseek(handle, 0, os.SEEK_SET)
            os.write(handle, f"process {os.getpid()} on {socket.gethostname()}, since {now}".encode())
        yield
    finally:
        if sys.platform == "win32":  # where no open file can be removed
            os.close(handle)
            with suppress(OSError):
                lock.unlink()
        else:
            lock.unlink(missing_ok=True)
            os.close(handle)


def _lock(lock: Path, what: Path) -> int:
    """Open and lock a file that is still the one at its path: a run that ends removes its lock file."""
    while True:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _take(handle)
        except (BlockingIOError, PermissionError):
            holder = os.read(handle, 500).decode(errors="replace")
            os.close(handle)
            raise ConfideError(f"{what} is in use by another run" + (f": {holder}" if holder else "")) from None
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), lock.stat()):
                return handle
        os.close(handle)


def _take(handle: int) -> None:
    """Lock an open file at once, or raise `BlockingIOError`, on Windows `PermissionError`."""
    if sys.platform == "win32":
        import msvcrt

        os.lseek(handle, _LOCKED_BYTE, os.SEEK_SET)  # far behind the text, which others may read
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        os.lseek(handle, 0, os.SEEK_SET)
        return
    import fcntl

    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
