"""Runs of combining marks are cut before they are sorted; other texts stay as they are."""

from __future__ import annotations

import sys
import unicodedata
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from confide.serving.routing import stream_safe as module
from confide.serving.routing.canonical_text import canonical
from confide.serving.routing.question_hash import question_hash
from confide.serving.routing.stream_safe import stream_safe
from upstreams import Upstream, expert_server, router, small_server

LONG = [
    "a" + "\u0301\u0316" * 500,
    "\u0316\u0301" * 500,  # no letter in front
    "a" + "\uff9e\u0301" * 500,  # a halfwidth mark that only compatibility makes one
    "é" + "\u0344\u0323" * 500,  # a mark that decomposes into two
    "ש" + "\u05b0\u0591" * 500,
    "ب" + "\u0651\u064d" * 500,
    "\U0001d157" + "\U0001d165\U0001d16d" * 500,
    "word " + "a\u0301" + "\u0316\u0301" * 500 + " word",
]


def longest_run(text: str) -> int:
    """The most marks in a row that are sorted when ``text`` is normalised."""
    marks = groupby(unicodedata.normalize("NFKD", text), lambda character: unicodedata.combining(character) > 0)
    return max((len(list(run)) for mark, run in marks if mark), default=0)


@pytest.mark.parametrize("text", LONG)
def test_long_runs_are_cut(text: str) -> None:
    assert longest_run(text) > 900
    assert longest_run(stream_safe(text)) <= 64
    assert stream_safe(text).replace("\u034f", "") == text


@pytest.mark.parametrize(
    "text",
    ["", "Kyoto", "Cafe\u0301", "a" + "\u0301\u0316" * 15, "ﾊﾟﾋﾟﾌﾟ" * 30, "नि" * 50, "日本" * 50, "👍🏽" * 50, "\ud800"],
)
def test_what_has_no_long_run_stays(text: str) -> None:
    assert stream_safe(text) == text


def test_no_mark_lies_behind_the_last_that_is_looked_at() -> None:
    assert not any(unicodedata.combining(chr(code)) for code in range(module._LAST + 1, sys.maxunicode + 1))


def test_texts_with_short_runs_keep_their_hash_and_form() -> None:
    def hashed(text: str) -> str:
        return question_hash([{"role": "user", "content": text}])

    marks = "\u0301\u0316" * 14
    assert hashed("a" + marks) == hashed(unicodedata.normalize("NFC", "a" + marks)) != hashed("a")
    assert hashed("CAFE\u0301") == hashed("café")
    assert canonical("ب" + marks) == canonical(unicodedata.normalize("NFC", "ب" + marks))
    for long in LONG:
        assert hashed(long) == hashed(long.upper().lower() + " ") != hashed(long + "x")


def test_the_router_sorts_no_long_run(
    tmp_path: Path, small: Upstream, big: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither of a question nor of an answer; quotes that are left out join runs again."""
    runs = []
    normalize = unicodedata.normalize

    def watched(form: Any, text: str) -> str:
        if len(text) > 1:
            marks = groupby(normalize("NFKD", text), lambda character: unicodedata.combining(character) > 0)
            runs.append(max((len(list(run)) for mark, run in marks if mark), default=0))
        return normalize(form, text)

    small.answer = big.answer = "اب" + ("\u0301\u0316" * 14 + "«") * 30 + f" {LONG[1]}"
    settings = {"small": small_server(small), "experts": [expert_server(big)], "audit_share": 1.0}
    with router(tmp_path, **settings) as running:
        monkeypatch.setattr(unicodedata, "normalize", watched)
        for text in LONG:
            assert running.ask(text).status_code == 200
        running.wait_for(lambda _: all(row["agreed"] == 1 for row in running.rows()) and len(running.rows()) == 8)
        assert len({row["question_hash"] for row in running.rows()}) == len(LONG)
    assert 28 <= max(runs) <= 64
