"""Fields of the latest answers, counted for the dashboard."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from confide.serving.http.dashboard import dashboard_page
from confide.serving.monitor.field_counts import MOST, field_counts
from confide.serving.monitor.snapshot import snapshot
from confide.serving.store.store import Store
from decision_rows import decision
from stores import using


def word(pointer: str, confidence: float | None, kept: bool | None, calibrated: float | None = None) -> dict[str, Any]:
    return {"pointer": pointer, "value": None, "confidence": confidence, "calibrated": calibrated, "kept": kept}


def told(tmp_path: Path, rows: list[list[dict[str, Any]]]) -> tuple[list[dict[str, Any]], str]:
    async def run(store: Store) -> tuple[list[dict[str, Any]], str]:
        for number, words in enumerate(rows):
            parts = json.dumps(words) if words else None
            await store.add(decision(id=f"dec_{number}", created=float(number), parts=parts))
        counts = await store.run(lambda connection: field_counts(connection, 0.0))
        return counts, dashboard_page(await snapshot(store, None, window_s=None))

    found: tuple[list[dict[str, Any]], str] = using(f"sqlite:///{tmp_path / 'x.db'}", run)
    return found


def test_fields_of_lists_count_together(tmp_path: Path) -> None:
    rows = [
        [word("/year", 0.5, True), word("/tags/0", 0.2, False), word("/tags/1", 0.4, False, 0.6)],
        [word("/year", None, False)],
        [],
    ]
    counts, page = told(tmp_path, rows)
    assert counts == [
        {"field": "/tags/*", "n": 2, "kept": 0, "sure": 0.4},
        {"field": "/year", "n": 2, "kept": 1, "sure": 0.5},
    ]
    assert "/tags/*" in page


def test_names_are_hostile_text_and_their_number_is_bounded(tmp_path: Path) -> None:
    rows = [[word(f"/<script>{n}", None, None) for n in range(MOST + 7)]]
    counts, page = told(tmp_path, rows)
    assert len(counts) == MOST
    assert counts[0]["kept"] is None
    assert "<script>" not in page


def test_without_fields_there_is_no_table(tmp_path: Path) -> None:
    counts, page = told(tmp_path, [[]])
    assert counts == []
    assert 'id="fields"' not in page
