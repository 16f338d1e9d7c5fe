"""Hashes that say whether two runs saw the same data: of JSON values, row by row."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any


def sha256_of_text(text: str) -> str:
    """SHA-256 of a text's UTF-8 bytes, as 64 hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_of_file(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_files(paths: Sequence[Path]) -> str:
    """SHA-256 of one file's bytes, or of the names and hashes of several."""
    return sha256_of_file(paths[0]) if len(paths) == 1 else sha256_of_rows([p.name, sha256_of_file(p)] for p in paths)


def key_of_text(text: str) -> str:
    """The first 16 digits of a text's SHA-256: enough to tell the texts of a file apart."""
    return sha256_of_text(text)[:16]


def sha256_of_rows(rows: Iterable[Any]) -> str:
    """SHA-256 of rows that JSON can write, one line each; their order counts.

    What JSON has no form for is hashed by its ``str``.

    >>> sha256_of_rows([["a", 1]]) == sha256_of_rows([["a", 2]])
    False
    """
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row, ensure_ascii=False, default=str).encode() + b"\n")
    return digest.hexdigest()
