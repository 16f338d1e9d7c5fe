"""The picture in docs/explanation/architecture.md is drawn from the imports as they are."""

from __future__ import annotations

from types import ModuleType

import pytest

from docs_scripts import DOCS, docs_script


@pytest.fixture(scope="module")
def drawing() -> ModuleType:
    return docs_script("draw_architecture")


def test_the_picture_is_up_to_date(drawing: ModuleType) -> None:
    page = (DOCS / "explanation" / "architecture.md").read_text(encoding="utf-8")
    assert page == drawing.drawn(page), "run: python docs/draw_architecture.py"


def test_a_circle_is_no_picture(drawing: ModuleType) -> None:
    with pytest.raises(ValueError, match="a circle among a, b"):
        drawing.floors({"a": {"b"}, "b": {"a"}, "c": set()})
    assert drawing.floors({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == {"c": 1, "b": 2, "a": 3}
    assert drawing.direct({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == {"a": {"b"}, "b": {"c"}, "c": set()}
