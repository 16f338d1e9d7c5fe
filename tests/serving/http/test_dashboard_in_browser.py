"""The dashboard in a headless Chromium: what axe-core finds, how it fits narrow windows, and its time axis."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from axe import grave
from browser import Browser
from confide.serving.http.dashboard import dashboard_page
from confide.serving.monitor.snapshot import build
from confide.serving.store.store import Store
from decision_rows import decision
from monitored import NOW, PROMISE


def written(folder: Path, rows: list[Any], *, window_s: float | None = None) -> Path:
    async def run() -> dict[str, Any]:
        store = Store.open(f"sqlite:///{folder}/confide.db")
        for row in rows:
            await store.add(row)
        found = await store.run(lambda connection: build(connection, PROMISE, NOW, window_s))
        await store.close()
        return found

    file = folder / "dashboard.html"
    file.write_text(dashboard_page(asyncio.run(run()), refresh_s=None), encoding="utf-8")
    return file


def traffic(n: int = 40, *, apart_s: float = 60, model: str = "small") -> list[Any]:
    return [
        decision(
            created=NOW - apart_s * (n - i),
            decision="escalate" if i % 3 == 0 else "answer",
            served="expert" if i % 3 == 0 else "small",
            answered_by=model,
            domain=model,
            question="What is the capital of Peru?",
            small_answer="Lima",
            audit=i % 2 == 0,
            audit_probability=0.5,
            agreed=i % 10 != 4 if i % 2 == 0 else None,
        )
        for i in range(n)
    ]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser.start() as started:
        yield started


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("rows", [0, 40])
def test_nothing_grave_is_found(browser: Browser, tmp_path: Path, rows: int, dark: bool) -> None:
    with browser.open(written(tmp_path, traffic(rows)).as_uri(), width=500, dark=dark) as page:
        assert grave(page) == []


@pytest.mark.parametrize("width", [320, 500, 1400])
def test_a_long_name_does_not_widen_the_page(browser: Browser, tmp_path: Path, width: int) -> None:
    with browser.open(written(tmp_path, traffic(5, model="m" * 200)).as_uri(), width=width) as page:
        page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
        assert page.evaluate("document.documentElement.scrollWidth") == width


@pytest.mark.parametrize(("n", "apart_s"), [(1, 60), (3, 1), (40, 1), (40, 60), (100, 3600), (100, 86_400)])
def test_no_time_stands_twice_on_an_axis(tmp_path: Path, n: int, apart_s: float) -> None:
    charts = re.findall(r"<svg.*?</svg>", written(tmp_path, traffic(n, apart_s=apart_s)).read_text(), re.DOTALL)
    assert charts
    for chart in charts:
        labels = re.findall(r'class="tick"[^>]*y="203.0"[^>]*>([^<]*)<', chart)
        assert labels
        assert len(set(labels)) == len(labels)


def test_an_empty_window_keeps_the_way_to_the_others(tmp_path: Path) -> None:
    rows = [decision(created=NOW - 7_200)]
    page = written(tmp_path, rows, window_s=3_600.0).read_text()
    assert "No request in this window." in page
    assert '<a href="?window=all&amp;refresh=off">everything</a>' in page
