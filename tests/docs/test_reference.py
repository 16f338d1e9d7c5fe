"""The generated parts of the reference are what the code says."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from types import ModuleType

import pytest
from pydantic.fields import FieldInfo

from confide.report.terms import TERMS
from confide.serving.monitor import alarms
from docs_scripts import DOCS, docs_script


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    return docs_script("generate_reference")


def test_the_pages_are_current(reference: ModuleType) -> None:
    for path, text in reference.written():
        assert path.read_text(encoding="utf-8") == text, "run: python docs/generate_reference.py"


def test_links_between_settings_have_a_heading(reference: ModuleType) -> None:
    page = reference.configuration_page()
    headings = re.findall(r"^## (.*)$", page, re.MULTILINE)
    anchors = {heading.lower().replace("`", "").replace(" ", "-") for heading in headings}
    links = set(re.findall(r"\]\(#([^)]*)\)", page))
    assert links <= anchors
    assert {"a-server", "small-in-this-process", "limits", "api_keys"} <= links


@pytest.mark.parametrize(
    "row",
    [
        "| `mode` | `act` or `observe` | `act` | `observe` decides",
        "| `small` | [`small` on a server]",
        "| `self` | [`self`](#self) | required |",
        "| `scopes` | list of `ask` or `feedback` or `read` or `admin` | `[ask, feedback]` |",
        "| `body_bytes` | whole number | `1000000` |",
        "| `store_text` | `true` or `false` | `false` |",
        "| `fields` | [`fields`](#fields) | – |",
    ],
)
def test_a_setting_shows_its_key_what_it_takes_and_its_default(reference: ModuleType, row: str) -> None:
    assert row in reference.configuration_page()


def test_a_setting_without_words_is_refused(reference: ModuleType) -> None:
    with pytest.raises(ValueError, match="the setting colour has no description"):
        reference._row("colour", FieldInfo(annotation=str))


def test_each_alarm_is_listed() -> None:
    """By its first argument where that is written out, and by the tuples that the calls in a loop take it from."""
    tree = ast.parse(Path(alarms.__file__).read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "_alarm"]
    named = {call.args[0].value for call in calls if isinstance(call.args[0], ast.Constant)}
    tuples = [node for node in ast.walk(tree) if isinstance(node, ast.Tuple) and len(node.elts) in (4, 5)]
    named |= {t.elts[0].value for t in tuples if isinstance(t.elts[0], ast.Constant) and isinstance(t.ctx, ast.Load)}
    assert named == set(alarms.ALARMS)


def test_the_glossary_explains_no_word_twice() -> None:
    page = (DOCS / "reference" / "glossary.md").read_text(encoding="utf-8")
    words = [line.split("|")[1].strip().strip("`") for line in page.splitlines() if line.startswith("| ")]
    words = [word for word in words if word != "term"]
    assert sorted(words) == sorted(set(words))
    assert set(TERMS) <= set(words)
