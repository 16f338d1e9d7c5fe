"""JSON values and where they stand, of whole, cut and broken JSON."""

from __future__ import annotations

import json
import sys
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.parts.json_values import DEEPEST, json_values, leaves

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
trees = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=12)
documents = st.lists(trees) | st.dictionaries(st.text(), trees)


@given(documents, st.booleans(), st.sampled_from([None, 1]))
def test_every_leaf_is_found_where_it_stands(value: Any, ascii_only: bool, indent: int | None) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    found = json_values(f"Here:\n```json\n{text}\n```")
    assert found.state == "whole"
    assert found.values == leaves(value)
    for part in found.parts:
        assert json.loads(f"Here:\n```json\n{text}\n```"[part.start : part.end]) == part.value


@given(documents, st.data())
def test_cut_json_keeps_the_leaves_that_are_whole(value: Any, data: st.DataObject) -> None:
    text = json.dumps(value)
    cut = data.draw(st.integers(0, len(text) - 1))
    found = json_values(text[:cut])
    assert found.state in ("cut", "none")
    whole = {part.name: part for part in json_values(text).parts if part.end <= cut}
    for part in found.parts:
        assert part == whole[part.name]
    missing = set(whole) - {part.name for part in found.parts}
    # Only a literal at the very end may go on, and a key that occurs twice cannot come from `dumps`.
    assert all(whole[name].end == cut for name in missing)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ('{"a": 1e5, "b": -0.5, "c": true}', {"/a": 1e5, "/b": -0.5, "/c": True}),
        ('{"a": "", "b": {}, "c": []}', {"/a": "", "/b": {}, "/c": []}),
        (r'{"a/b": "say \"hi\"", "~": "\u00e9\ud83d\ude80"}', {"/a~1b": 'say "hi"', "/~0": "é🚀"}),
        ('{"a": 19', {}),  # of 1984, perhaps
        ('{"a": 1984}', {"/a": 1984}),
        ('{"a": "Zo', {}),
        ('{"a": "x", "b": nul', {"/a": "x"}),
        ('{"a": "x", "b', {"/a": "x"}),
        ('{"a": "x", "b": "\\', {"/a": "x"}),
        ('{"a": "x", "b": [1, 2, {"c": 3', {"/a": "x", "/b/0": 1, "/b/1": 2}),
        ("see [1]: {\"a\": 1, \"b\": 2} as asked", {"/a": 1, "/b": 2}),
        ("{'a': 1}", {}),
        ("no JSON at all", {}),
        ("", {}),
        ('{"a": NaN}', {}),
        (r'{"\ud800": "a\udc00", "b": "\ud83d\ude80"}', {"/\ufffd": "a\ufffd", "/b": "🚀"}),
        ("{" * 5000, {}),
        ("[" * 5000 + "1" + "]" * 5000, {}),
    ],
)  # fmt: skip
def test_odd_texts(text: str, values: dict[str, Any]) -> None:
    assert json_values(text).values == values


@pytest.mark.parametrize("text", ['{"a": "x", b: 2}', '{"a": "x",}', '{"a": "x" "b": 2}', '{"a": "x", "b": 012}'])
def test_broken_json_keeps_what_was_whole(text: str) -> None:
    found = json_values(text)
    assert (found.state, found.values) == ("broken", {"/a": "x"})


def test_of_a_key_that_occurs_twice_the_last_one_counts_and_it_is_said() -> None:
    text = '{"a": {"b": 1}, "c": 2, "a": {"b": 3}}'
    found = json_values(text)
    assert found.values == leaves(json.loads(text)) == {"/c": 2, "/a/b": 3}
    assert found.duplicates == ["/a"]


def test_depth_is_bounded() -> None:
    deep = "[" * DEEPEST + "1" + "]" * DEEPEST
    assert json_values(deep).values == {"/0" * DEEPEST: 1}
    assert json_values(f"[{deep}]").values == {}


def test_keys_that_come_again_and_again_are_dropped_wherever_they_stood() -> None:
    text = '{"a": {"b": {"c": 1, "c": 2}, "b": [3]}, "a": {"b": 4, "d": {"a": 5}}, "e": 6, "a": {"d": {"f": 7}}}'
    found = json_values(text)
    assert found.values == leaves(json.loads(text)) == {"/e": 6, "/a/d/f": 7}
    assert found.duplicates == ["/a/b/c", "/a/b", "/a", "/a"]


def test_many_keys_that_come_twice_take_no_more_steps_a_key_than_few() -> None:
    def steps(keys: int) -> int:
        once = ",".join(f'"a{n}":{n}' for n in range(keys))
        text, count = "{" + once + "," + once + "}", 0

        def counted(frame: FrameType, event: str, _: object) -> Any:
            nonlocal count
            count += event == "line"
            return counted

        before = sys.gettrace()
        sys.settrace(counted)
        try:
            assert len(json_values(text).duplicates) == keys
        finally:
            sys.settrace(before)
        return count

    assert steps(200) < 11 * steps(20)
