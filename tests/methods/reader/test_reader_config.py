"""Settings of readers: sizes of memory in words."""

from __future__ import annotations

import pytest

from confide.errors import ConfideError
from confide.methods.reader.reader_config import parse_size


@pytest.mark.parametrize(("text", "size"), [("4GB", 4 * 10**9), ("500 MB", 5 * 10**8), ("0", 0), ("1.5k", 1500)])
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


def test_a_bad_size_is_named() -> None:
    with pytest.raises(ConfideError, match="'lots'"):
        parse_size("lots")
