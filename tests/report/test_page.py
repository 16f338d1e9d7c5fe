import re
from html.parser import HTMLParser

import numpy as np
import pytest

from confide.errors import ConfideError
from confide.metrics import evaluate
from confide.records import Message, Record
from confide.report import render
from confide.report.page import clean, interval, number

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'{{ 7 * 7 }} $\\frac{$ \u202e\x00"


def records(n=300, *, hostile="answer", source="stack"):
    rng = np.random.default_rng(0)
    out = []
    for i in range(n):
        p = rng.random()
        noise = float(np.clip(p + rng.normal() * 0.3, 0, 1))
        out.append(
            Record(
                id=f"{i} {hostile}",
                task=hostile,
                domain=f"{hostile} {i % 2}",
                split="test",
                messages=[Message(role="user", content=f"{hostile} {i}")],
                answer=hostile,
                answered=hostile,
                reference=[hostile],
                correct=bool(rng.random() < p),
                model=hostile,
                confidence={source: p, "logprob_sum": noise, "answer_length": -float(i % 4)},
            )
        )
    return out


class Page(HTMLParser):
    """Collects elements, attributes and ids; complains about tags that are closed wrongly."""

    VOID = frozenset({"meta", "br", "img", "link"})

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.open = [], [], []
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def html():
    rows = records()
    return render(evaluate(rows, resamples=50), rows)


def test_it_says_what_was_found(html):
    assert "stack ranks right above wrong with AUROC" in html
    for words in (
        "All sources",
        "Paired differences",
        "By domain",
        "Controls",
        "Most confident wrong answers",
    ):
        assert words in html
    assert html.count("<svg") == html.count("</svg>") == 6
    assert "ECE with 10 bins" in html


def test_it_is_well_formed_with_unique_ids(html):
    page = Page(html)
    ids = [value for name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    targets = re.findall(r'(?:url\(|href=")#([^)"]+)', html)
    assert targets
    assert set(targets) <= set(ids)


def test_nothing_is_fetched_and_nothing_runs(html):
    page = Page(html)
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    addresses = [value for name, value in page.attributes if name in ("href", "src", "xlink:href")]
    assert all(address.startswith("#") for address in addresses)
    assert "@import" not in html
    assert "default-src 'none'" in html


def test_hostile_text_is_shown_not_run():
    rows = records(hostile=HOSTILE, source="stack <b>$x_{</b>")
    page = Page(html := render(evaluate(rows, resamples=20), rows))
    assert not {"script", "img", "b"} & set(page.tags)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "49" not in re.findall(r"onerror=alert\(2\)&gt;&#34;&#39;(.{0,15})", html)[0]
    assert "\u202e" not in html
    assert "\x00" not in html
    html.encode("utf-8")


def test_colours_follow_the_page(html):
    figures = "".join(re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL))
    assert "#a0000" not in figures
    assert "var(--main)" in figures
    assert "prefers-color-scheme: dark" in html
    assert "@media print" in html


def test_the_same_results_give_the_same_page(html):
    rows = records()
    assert render(evaluate(rows, resamples=50), rows) == html


def test_foreign_records_make_a_page():
    rng = np.random.default_rng(0)
    rows = [Record(id=str(i), confidence=(p := rng.random()), correct=bool(rng.random() < p)) for i in range(150)]
    html = render(evaluate(rows, resamples=20), rows)
    Page(html)
    assert "There is no free source" in html
    assert "By domain" not in html


def test_a_source_that_is_no_probability():
    rows = records()
    for row in rows:
        row.confidence = {"given": 10 * row.confidence["stack"] - 20}
    html = render(evaluate(rows, resamples=20), rows)
    assert "not probabilities" in html
    assert html.count("<svg") == 3


def test_few_rows_and_one_value():
    rows = [Record(id=str(i), confidence=0.5, correct=i % 2 == 0) for i in range(4)]
    html = render(evaluate(rows, resamples=5), rows)
    Page(html)
    assert "too few for a verdict" in html


def test_every_figure_can_be_missing():
    rows = records(120)
    for row in rows:
        row.confidence["stack"] = 0.7 if row.correct else None
        row.confidence["logprob_sum"] = None
    Page(render(evaluate(rows, resamples=10), rows))


def test_size_for_many_records():
    rows = records(10_000)
    assert len(render(evaluate(rows, resamples=5), rows).encode()) < 1_000_000


def test_long_text_is_cut():
    assert len(clean("x" * 5000)) == 400
    assert clean(["a", "b"]) == "a, b"
    assert clean("lone \ud800 surrogate") == "lone ? surrogate"


def test_numbers():
    assert number(-0.0123) == "−0.012"
    assert number(-0.0001) == "0.000"
    assert number(None) == "–"
    assert interval({"low": -0.1, "high": 0.2}) == "[−0.100, 0.200]"
    assert interval(None) == interval({"low": None, "high": None}) == ""


def test_records_without_grades_are_refused():
    rows = records()
    results = evaluate(rows, resamples=5)
    for row in rows:
        row.correct = None
    with pytest.raises(ConfideError, match="none of the 300"):
        render(results, rows)
