"""The picture in docs/explanation/architecture.md is drawn from the imports as they are."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def drawing() -> ModuleType:
    spec = importlib.util.spec_from_file_location("draw_architecture", DOCS / "draw_architecture.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_picture_is_up_to_date(drawing: ModuleType) -> None:
    page = (DOCS / "explanation" / "architecture.md").read_text(encoding="utf-8")
    assert page == drawing.drawn(page), "run: python docs/draw_architecture.py"


def test_a_circle_is_no_picture(drawing: ModuleType) -> None:
    with pytest.raises(ValueError, match="a circle among a, b"):
        drawing.floors({"a": {"b"}, "b": {"a"}, "c": set()})
    assert drawing.floors({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == {"c": 1, "b": 2, "a": 3}
    assert drawing.direct({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == {"a": {"b"}, "b": {"c"}, "c": set()}
