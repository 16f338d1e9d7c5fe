"""What the latest rows tell of the fields of small answers."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from confide.parts.part import kind_of
from confide.serving.monitor.traffic import RECENT
from confide.serving.store.tables import arrival, decisions

MOST = 50
"""Names of fields that are told, the most frequent first: a client may make up any number of them."""


def field_counts(connection: Connection, start: float) -> list[dict[str, Any]]:
    """Each field of the latest rows since ``start``: how often it came, was kept, and how sure the model was of it."""
    d = decisions.c
    query = sa.select(d.parts).where(d.parts.is_not(None), d.created >= start)
    rows = connection.execute(query.order_by(arrival(connection).desc()).limit(RECENT)).scalars()
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        for word in json.loads(row):
            found[kind_of(word["pointer"]) or word["pointer"]].append(word)
    often = sorted(found, key=lambda name: (-len(found[name]), name))[:MOST]
    return [_counted(name, found[name]) for name in often]


def _counted(name: str, words: list[dict[str, Any]]) -> dict[str, Any]:
    sure = [word["calibrated"] if word["calibrated"] is not None else word["confidence"] for word in words]
    known = [value for value in sure if value is not None]
    decided = [word["kept"] for word in words if word["kept"] is not None]
    return {
        "field": name,
        "n": len(words),
        "kept": sum(decided) if decided else None,
        "sure": sum(known) / len(known) if known else None,
    }
