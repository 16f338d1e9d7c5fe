import base64
import hashlib
import json
import re
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pytest

from confide.errors import ConfideError
from confide.evaluation import evaluate
from confide.evaluation.figures import METRICS, SHOWN
from confide.records import Cost, Record, Sample
from confide.report import render
from confide.report.page import max_risk
from confide.report.templating import embedded, page_environment
from made_up import HOSTILE, records, with_every_part

HEADINGS = (
    "Does it read its own answer",
    "Does the number say what the model would say again?",
    "Does it travel?",
    "By kind of error",
    "When no answer is right",
    "Does the report follow the model?",
    "When does the signal appear?",
)
"""Headings of the parts that results.json holds only where the records carry what they need."""


class Page(HTMLParser):
    """Collects elements, attributes and the text of scripts and styles; complains about tags closed wrongly."""

    VOID = frozenset({"meta", "br", "img", "link", "input"})

    def __init__(self, html):
        super().__init__()
        self.tags, self.elements, self.open, self.raw = [], [], [], []
        self.feed(html)
        assert not self.open

    @property
    def attributes(self):
        return [pair for _, attributes in self.elements for pair in attributes]

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.elements.append((tag, attrs))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.elements.append((tag, attrs))

    def handle_data(self, data):
        if self.open and self.open[-1] in ("script", "style"):
            self.raw.append((self.open[-1], data))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def policy(html):
    (content,) = re.findall(r'<meta http-equiv="Content-Security-Policy" content="([^"]+)">', html)
    return content.replace("&#39;", "'")


@pytest.fixture(scope="module")
def html():
    rows = records()
    return render(evaluate(rows, resamples=50), rows)


def test_it_says_what_was_found(html):
    assert "stack ranks right above wrong with AUROC" in html
    order = [
        "Does the confidence tell right from wrong?",
        "How good is it?",
        "Does 0.8 mean 80%?",
        "What does a threshold buy?",
        "Where does it fail?",
        "By domain",
        "Most confident wrong answers",
        "Least confident right answers",
        "What could make these numbers mean less?",
        "Paired differences",
    ]
    places = [html.index(words) for words in order]
    assert places == sorted(places)
    assert "ECE with 10 bins" in html
    assert not any(heading in html for heading in HEADINGS)


@pytest.mark.parametrize("judged", [False, True])
def test_the_sentences_at_the_top_stand_apart(judged):
    rows = records()
    if judged:
        rows = [row.model_copy(update={"judged": bool(row.correct), "judged_by": "big"}) for row in rows]
    top = " ".join(
        re.search(r'<p class="faint">(.*?)</p>', render(evaluate(rows, resamples=50), rows), re.S)[1].split()
    )
    assert ("with a label. Brackets: 95% intervals" in top) == judged
    assert ". Brackets: 95% intervals" in top
    assert ".." not in top


def test_every_part_of_the_results_is_shown():
    rows = records(200)
    html = render(with_every_part(evaluate(rows, resamples=20)), rows)
    Page(html)
    assert all(heading in html for heading in HEADINGS)
    for words in ("travels.", "rejects.", "follows.", "is privileged.", "not measurable"):
        assert words in html
    assert "odd &lt;i&gt;" in html
    assert "<i>" not in html
    assert re.search(r'tag-failed">failed</span><span><strong>swapped', html)


def test_twelve_figures_are_shown_and_all_of_them_on_request(html):
    main, every = html.split('<details id="all-figures">')
    main = main[main.index("Main figures") :]
    shown = re.findall(r'<th scope="col">(.*?)</th>', main.partition("</thead>")[0])
    assert shown[:2] == ["Source", "AUROC"]
    assert "Brier score" in shown
    assert len(shown) - 1 <= len(SHOWN) == 12
    for words in ("Kept with at most 10% wrong", "ECE, 10 bins"):
        assert words in main
        assert words in every
    assert "CPT(80)" in every
    assert "CPT(80)" not in main


def test_every_metric_has_a_title_and_a_group():
    names = page_environment("report/templates").get_template("macros.html.j2").module
    assert set(names.titles) == set(METRICS)
    assert sorted(name for group in names.groups.values() for name in group) == sorted(METRICS)
    assert set(names.percents) < set(METRICS)


def test_parts_may_be_null():
    rows = records(200)
    results = evaluate(rows, resamples=20)
    for name in ("within_question", "agreement", "auroc_by_position", "error_kinds", "matrix", "rejection", "coupling"):
        results[name] = None
    results["recommendation"] = None
    assert not any(heading in render(results, rows) for heading in HEADINGS)


def test_the_recommendation_stands_with_the_verdict():
    rows = records(200)
    more = [row.model_copy(update={"split": "validation", "id": f"v{row.id}"}) for row in rows]
    results = evaluate(rows + more, resamples=20)
    assert results["recommendation"]["source"] == "stack"
    page = unescape(render(results, rows))
    told = f"{results['recommendation']['reason']} {results['recommendation']['next']}"
    assert page.index('class="verdict') < page.index(told) < page.index("<nav")
    without = evaluate(rows, resamples=5)
    assert f"{without['recommendation']['reason']}</p>" in unescape(render(without, rows))


def test_a_source_without_a_value_on_right_answers_gets_a_dash():
    rows = records(200)
    for row in rows:
        row.confidence["verbalized"] = None if row.correct else 0.5
        row.__pydantic_extra__["error_kind"] = None if row.correct else "misread"
    results = evaluate(rows, resamples=5)
    assert results["error_kinds"]["right"]["confidence"]["verbalized"] is None
    assert "By kind of error" in render(results, rows)


def agreeing(rows, samples=10):
    """The rows with agreement among samples that `stack` follows."""
    rng = np.random.default_rng(1)
    for row in rows:
        row.consistency = int(rng.binomial(10, row.confidence["stack"])) / 10
        row.samples = [Sample(answer="")] * samples if samples else None
    return rows


def test_faithfulness_stands_between_its_floor_and_its_ceiling():
    rows = agreeing(records(150))
    for row in rows:
        row.confidence |= {"self_consistency": row.consistency, "stack": row.confidence["stack"]}
    rows[3].__pydantic_extra__["parsed"] = False
    results = evaluate(rows, resamples=20)
    html = render(results, rows)
    Page(html)
    assert "Does the number say what the model would say again?" in html
    assert "sampled answers, 10 each, agree" in html
    star = results["estimators"]["stack"]["cmfg_star"]
    for name in ("floor", "ceiling", "skill"):
        assert f"{star[name]['value']:.3f}" in html
    assert "made of the samples" in html
    assert "No confidence could be read from the text of 1 answer" in html
    assert "cMFG* if missing is worst" in html
    unknown = agreeing(records(150), samples=0)
    for row in unknown:
        del row.confidence["logprob_sum"]
        row.confidence.pop("p_true", None)
    html = render(evaluate(unknown, resamples=20), unknown)
    assert "there is no ceiling and no skill" in html
    assert "if missing is worst" not in html


def test_it_is_well_formed_with_unique_ids(html):
    page = Page(html)
    ids = [value for name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    named = {"for", "aria-labelledby", "aria-describedby"}
    targets = {value for name, value in page.attributes if name in named}
    targets |= {value.removeprefix("#") for name, value in page.attributes if name == "href"}
    assert len(targets) > 12
    assert targets <= set(ids)


def test_nothing_is_fetched(html):
    page = Page(html)
    assert not {"link", "img", "iframe", "object", "base", "form"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on") or name in ("src", "style", "xlink:href")]
    assert all(value.startswith("#") for name, value in page.attributes if name == "href")
    assert "@import" not in html
    assert "url(" not in html
    assert "http://" not in html
    assert "https://" not in html


def test_the_policy_names_the_only_script_and_style(html):
    page = Page(html)
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for _, text in page.raw]
    kinds = [kind for kind, _ in page.raw]
    types = [dict(attributes).get("type") for tag, attributes in page.elements if tag == "script"]
    assert kinds == ["style", "script", "script"]
    assert types == ["application/json", None]
    assert policy(html) == (
        f"default-src 'none'; script-src 'sha256-{hashes[2]}'; style-src 'sha256-{hashes[0]}'; "
        "base-uri 'none'; form-action 'none'"
    )


def test_hostile_text_is_shown_not_run():
    rows = records(hostile=HOSTILE, source=f"stack {HOSTILE}")
    html = render(evaluate(rows, resamples=20), rows)
    page = Page(html)
    assert not {"img", "b", "i"} & set(page.tags)
    assert page.tags.count("script") == 2
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "{{ 7 * 7 }}" in html
    assert not {"\u202e", "\u2028", "\x00"} & set(html)
    data = json.loads(page.raw[1][1])
    assert "</script><script>" in data["sources"][0]["name"]
    html.encode("utf-8")


@pytest.mark.parametrize("text", ["</script>", "<!--<script>", "]]>", "\u2028\u2029", "\ud800", "&lt;"])
def test_embedded_data_cannot_end_its_element(text):
    found = str(embedded({text: [text]}))
    assert not set("<>&\u2028\u2029\ud800") & set(found)
    assert json.loads(found) == {text: [text]}


def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


def contrast(a, b):
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def test_words_can_be_told_from_paper_in_every_scheme(html):
    schemes = [dict(re.findall(r"--(\w+): (#\w+);", block)) for block in re.findall(r":root \{(.*?)\}", html, re.S)]
    assert len(schemes) == 3
    for found in schemes:
        scheme = {name: c if len(c) == 7 else "#" + "".join(2 * d for d in c[1:]) for name, c in found.items()}
        for paper in ("paper", "card", "tint"):
            words = set(scheme) - {"paper", "card", "tint", "line", "edge"}
            low = {name: contrast(scheme[name], scheme[paper]) for name in words}
            assert min(low.values()) >= 4.5, (paper, low)
            assert contrast(scheme["edge"], scheme[paper]) >= 3


def test_light_dark_and_print(html):
    assert "prefers-color-scheme: dark" in html
    assert "@media print" in html
    figures = "".join(re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL))
    assert not re.search(r"#[0-9a-f]{3,6}\b|rgb\(", figures)


def test_pictures_and_tables_have_words_for_those_who_do_not_see_them(html):
    page = Page(html)
    svgs = [dict(attributes) for tag, attributes in page.elements if tag == "svg"]
    assert len(svgs) > 8
    assert all(svg.get("aria-hidden") == "true" or (svg["role"] == "img" and svg["aria-label"]) for svg in svgs)
    heads = [dict(attributes) for tag, attributes in page.elements if tag == "th"]
    assert all("scope" in head for head in heads)
    scrolled = [dict(a) for _, a in page.elements if ("class", "scroll") in a]
    assert all(s["tabindex"] == "0" and s["role"] == "region" and s["aria-label"] for s in scrolled)


def test_the_same_results_give_the_same_page(html):
    rows = records()
    assert render(evaluate(rows, resamples=50), rows) == html


def test_the_price_and_the_expert_come_from_the_results():
    rows = records()
    results = evaluate(rows, resamples=20)
    results["routing"] |= {"expert_cost": 25.0, "expert": "records", "expert_accuracy": 0.75}
    html = render(results, rows)
    assert re.search(r'id="price"[^>]* value="25"', html)
    assert re.search(r'id="expert"[^>]* value="75"', html)


def test_foreign_records_make_a_page():
    rng = np.random.default_rng(0)
    rows = [Record(id=str(i), confidence=(p := rng.random()), correct=bool(rng.random() < p)) for i in range(150)]
    html = render(evaluate(rows, resamples=20), rows)
    Page(html)
    assert "There is no free source" in html
    assert "By domain" not in html
    assert "--source given" in html


def test_a_source_that_is_no_probability():
    rows = records()
    for row in rows:
        row.confidence = {"given": 10 * row.confidence["stack"] - 20}
    html = render(evaluate(rows, resamples=20), rows)
    Page(html)
    assert "not probabilities" in html
    assert "Does 0.8 mean 80%?" not in html
    assert "What does a threshold buy?" in html


def test_few_rows_and_one_value():
    rows = [Record(id=str(i), confidence=0.5, correct=i % 2 == 0) for i in range(4)]
    html = render(evaluate(rows, resamples=5), rows)
    Page(html)
    assert "too few for a verdict" in html
    assert "No verdict" in html


def test_floors_alone():
    rows = records(120)
    for i, row in enumerate(rows):
        row.confidence = {"constant": 0.5, "shuffled": i / 120}
    Page(render(evaluate(rows, resamples=5), rows))


def test_every_figure_can_be_missing():
    rows = records(120)
    for row in rows:
        row.confidence["stack"] = 0.7 if row.correct else None
        row.confidence["logprob_sum"] = None
    Page(render(evaluate(rows, resamples=10), rows))


def test_controls_of_a_comparison_have_no_place_at_the_slider():
    rows = records()
    for row in rows:
        row.confidence |= {"constant": 0.5, "other_stack": row.confidence["logprob_sum"]}
    page = Page(render(evaluate(rows, resamples=10), rows))
    names = [source["name"] for source in json.loads(page.raw[1][1])["sources"]]
    assert "stack" in names
    assert not {"constant", "other_stack"} & set(names)


def test_size_for_many_records_and_sources():
    rows = records(10_000, extra=8)
    assert len(rows[0].confidence) == 12
    results = evaluate(rows[:500], resamples=2)  # the figures do not change the page's size, the rows do
    assert len(render(results, rows).encode()) < 1_000_000


def test_the_goal_of_the_command():
    assert max_risk(100, 90) == 0.1
    assert max_risk(1000, 899) == 0.11
    assert max_risk(5, 5) == 0.01
    assert max_risk(5, 0) == 0.99


def test_records_without_grades_are_refused():
    rows = records()
    results = evaluate(rows, resamples=5)
    for row in rows:
        row.correct = None
    with pytest.raises(ConfideError, match="none of the 300"):
        render(results, rows)


def test_a_source_whose_time_nobody_took_is_not_drawn_as_free():
    rows = records(150)
    for row in rows:
        if "p_true" in row.confidence:
            row.cost["p_true"] = Cost(tokens=40)
    html = render(evaluate(rows, resamples=5), rows)
    assert "extra tokens an answer" in html
    assert "extra seconds an answer" not in html


def test_harmful_texts_are_shown_only_where_somebody_asks_for_them():
    rows = records(200)
    for row in rows:
        row.answer, row.signal = f"words of {row.id}", "red_flag"
    page = render(evaluate(rows, resamples=10), rows)
    texts = re.findall(r"<div>(?:(<details class=\"veiled\">)<summary>harmful, show it</summary>)?<span[^>]*>"
                       r"words of (\d+ answer)<", page)  # fmt: skip
    harmful = {row.id for row in rows if not row.correct}
    assert {bool(veil) for veil, _ in texts} == {True, False}
    assert all(bool(veil) == (id in harmful) for veil, id in texts)
    assert len(texts) == page.count("words of ")


def test_a_dot_below_one_half_is_drawn_below_it():
    """A source that ranks the wrong way round: its dot once stood at 0.5."""
    rows = [
        r.model_copy(update={"confidence": {**r.confidence, "p_true": 1 - r.confidence["stack"]}}) for r in records()
    ]
    results = evaluate(rows, resamples=20)
    html = render(results, rows)
    low = float(re.search(r"drawn from ([0-9.]+) to 1; upright line: 0.5", html)[1])
    table = html[html.index("Table of all sources") :]
    row = table[table.index(">p_true<") :]
    drawn = float(re.search(r'<circle class="dot plain" cx="([0-9.]+)"', row)[1])
    value = results["estimators"]["p_true"]["auroc"]["value"]
    assert value < 0.3
    assert low <= value
    assert drawn == pytest.approx(2 + 86 * (value - low) / (1 - low), abs=0.06)


def test_a_family_is_not_said_twice_and_one_thing_is_not_many():
    rows = [
        r.model_copy(
            update={"confidence": {"given": r.confidence["stack"]}, "cost": {"given": Cost(tokens=1)}, "split": None}
        )
        for r in records()
    ]
    html = render(evaluate(rows, resamples=5), rows)
    assert ">given</span></th>" in html
    assert "1 token<" in html
    assert not re.search(r"\b1 (tokens|rows|controls|sources|answers|entities)\b", html)


def test_a_share_that_was_seen_is_not_told_as_a_promise(html):
    tile = re.search(r"<dt>Kept on these rows</dt>(.*?)</div>", html, re.S)[1]
    assert "seen, not promised" in tile


def test_the_command_names_the_file_that_was_judged():
    rows = records(150)
    for file, shown in (("runs/my scored.jsonl", "&#39;runs/my scored.jsonl&#39;"), (None, "scored.jsonl")):
        html = render(evaluate(rows, resamples=5, file=file), rows)
        assert f"confide calibrate {shown} --source stack" in html
        assert "S.jsonl" not in html


def test_the_words_of_the_page_are_explained(html):
    words = html[html.index('id="words"') :]
    for word in ("AUROC", "APGR", "AIQ", "CPT(50)", "parity share", "prior", "floor", "ECE", "escalate"):
        assert f"<dt>{word}</dt>" in words


def test_two_columns_without_a_free_one_are_set_against_each_other():
    rng = np.random.default_rng(0)
    rows = [
        Record(id=str(i), confidence={"a": (p := rng.random()), "b": rng.random()}, correct=bool(rng.random() < p))
        for i in range(150)
    ]
    html = render(evaluate(rows, resamples=20), rows)
    assert "a is ahead of b<" in html
    assert "nothing to be compared with" not in html
    assert "Paired differences" in html
