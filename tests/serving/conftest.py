"""Servers that the router under test asks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from upstreams import Upstream


@pytest.fixture
def small() -> Iterator[Upstream]:
    with Upstream(answer="Japan").running() as server:
        yield server


@pytest.fixture
def big() -> Iterator[Upstream]:
    with Upstream(answer="It is Japan").running() as server:
        yield server


@pytest.fixture
def spare() -> Iterator[Upstream]:
    with Upstream(answer="Spare").running() as server:
        yield server
