"""What all tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from upstreams import Upstream

# Examples that take long on a busy machine are no failures.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may reach the network
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
if "PYTEST_XDIST_WORKER" in os.environ:  # several processes with several threads each only wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="module")
def one_thread():
    """One thread for torch: matrices as small as a tiny model's only wait for a second one."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def small() -> Iterator[Upstream]:
    from upstreams import Upstream

    with Upstream(answer="Japan").running() as server:
        yield server


@pytest.fixture
def big() -> Iterator[Upstream]:
    from upstreams import Upstream

    with Upstream(answer="It is Japan").running() as server:
        yield server


@pytest.fixture
def spare() -> Iterator[Upstream]:
    from upstreams import Upstream

    with Upstream(answer="Spare").running() as server:
        yield server


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the paths on the real model first: they take longest, and several processes then end together."""
    items.sort(key=lambda item: item.path.name not in ("test_path.py", "test_rlmf_path.py"))
