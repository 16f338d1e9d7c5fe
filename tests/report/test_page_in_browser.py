"""The page in a headless Chromium: the slider moves the numbers, nothing is fetched, nothing hostile runs."""

import math
import re

import numpy as np
import pytest

from confide.evaluation import evaluate
from confide.report import render
from made_up import HOSTILE, records, with_every_part

RESULTS = ("right", "kept", "escalated", "together", "cost")


@pytest.fixture(scope="module")
def rows():
    return records()


@pytest.fixture(scope="module")
def path(rows, tmp_path_factory):
    file = tmp_path_factory.mktemp("report") / "report.html"
    file.write_text(render(evaluate(rows, resamples=20), rows), encoding="utf-8")
    return file


@pytest.fixture
def page(browser, path):
    with browser.open(path.as_uri()) as page:
        yield page
        page.settle(0.3)
        assert page.errors == []
        assert page.console == []
        assert page.requests == [path.as_uri()]


def shown(page):
    """The figures beside the slider, as numbers; shares are in percent."""
    return {name: float(page.text(f"#{name}").rstrip("%").replace(",", "")) for name in RESULTS}


def threshold(page):
    return float(page.text("#value").replace("−", "-"))


def expected(rows, source, at, *, own=1.0, price=10.0, expert=1.0):
    """The same figures counted from the records."""
    present = [r for r in rows if r.confidence.get(source) is not None]
    kept = [r for r in present if r.confidence[source] >= at]
    right, n, k = sum(r.correct for r in kept), len(present), len(kept)
    share = 1 - k / n
    return {
        "right": 100 * right / k,
        "kept": 100 * k / n,
        "escalated": 100 * share,
        "together": 100 * (right + (n - k) * expert) / n,
        "cost": own + share * price,
    }


def agrees(page, *arguments, **more):
    numbers, wanted = shown(page), expected(*arguments, threshold(page), **more)
    for name in RESULTS:
        digits = 0.0051 if name == "cost" else 0.051
        assert numbers[name] == pytest.approx(wanted[name], abs=digits), name


def test_what_stands_there_before_the_script_is_what_the_script_shows(page, path):
    static = dict(re.findall(r'<dd id="(\w+)">([^<]+)</dd>', path.read_text("utf-8")))
    assert static == {name: page.text(f"#{name}") for name in RESULTS}
    command = re.search(r'<code id="command">([^<]+)</code>', path.read_text("utf-8"))[1]
    assert command == page.text("#command")


def test_the_keyboard_moves_the_slider_and_the_numbers_follow(page, rows):
    page.focus("#slider")
    seen = set()
    for key, times in (("ArrowLeft", 5), ("PageDown", 2), ("ArrowRight", 3), ("Home", 1), ("PageUp", 4), ("End", 1)):
        page.press(key, times=times)
        agrees(page, rows, "stack")
        seen.add(tuple(shown(page).values()))
        assert page.evaluate("document.getElementById('slider').ariaValueText") == page.text("#value")
    assert len(seen) == 6
    page.press("Home")
    assert shown(page)["kept"] == 100
    assert shown(page)["cost"] == 1


def test_every_threshold_of_every_source_is_counted_right(page, rows):
    """All counts that the page holds, read as the script reads them."""
    data = page.evaluate("JSON.parse(document.getElementById('data').textContent)")
    assert data["rows"] == len(rows)
    assert {source["name"] for source in data["sources"]} == {"stack", "p_true", "logprob_sum", "answer_length"}
    for source in data["sources"]:
        present = [r for r in rows if r.confidence.get(source["name"]) is not None]
        values = np.array([r.confidence[source["name"]] for r in present])
        correct = np.array([r.correct for r in present])
        for at, kept, right in zip(source["threshold"], source["kept"], source["right"], strict=True):
            assert (kept, right) == (np.sum(values >= at), np.sum(correct[values >= at]))


def test_another_source_can_be_chosen_by_keyboard(page, rows):
    names = page.evaluate("[...document.querySelectorAll('#source option')].map(o => o.textContent)")
    page.focus("#source")
    page.press("Home")
    page.press("ArrowDown", times=names.index("p_true"))
    assert page.evaluate("document.querySelector('#source').selectedOptions[0].textContent") == "p_true"
    agrees(page, rows, "p_true")
    assert "--source p_true " in page.text("#command")
    page.wait("document.getElementById('status').textContent.includes('200 rows without a value')")
    shows = "getComputedStyle(document.querySelector('#curve path[data-source=\"{}\"]')).display"
    assert page.evaluate(shows.format(names.index("p_true"))) == "inline"
    assert page.evaluate(shows.format(names.index("answer_length"))) == "none"
    visible = page.evaluate("[...document.querySelectorAll('#histograms .choice')].map(e => e.offsetHeight > 0)")
    assert visible == [name == "p_true" for name in names]
    page.focus("#slider")
    page.press("ArrowRight", times=20)
    agrees(page, rows, "p_true")


def test_prices_and_the_expert_move_the_cost(page, rows):
    page.write("#own", "2.5")
    page.write("#price", "40")
    page.write("#expert", "80")
    agrees(page, rows, "stack", own=2.5, price=40, expert=0.8)
    before = shown(page)
    for nonsense in ("", "-3"):
        page.write("#price", nonsense) if nonsense else page.evaluate("document.getElementById('price').value = ''")
        page.press("Tab")
        page.evaluate("document.getElementById('slider').dispatchEvent(new Event('input'))")
        assert shown(page)["cost"] == 2.5
    assert shown(page)["together"] == before["together"]


def test_marks_follow_the_threshold(page):
    page.focus("#slider")
    page.press("Home")
    places = []
    for _ in range(3):
        line = page.evaluate("document.querySelector('#histograms .choice:not(.off) .cut').getBoundingClientRect().x")
        ring = page.evaluate("document.querySelector('#curve .here').getBoundingClientRect().x")
        places.append((line, ring))
        page.press("PageUp", times=3)
    assert places[0][0] < places[1][0] < places[2][0]
    assert places[0][1] > places[1][1] > places[2][1]


def test_the_command_asks_for_the_risk_that_is_shown(page):
    assert "No guarantee" in page.text(".promise")
    page.focus("#slider")
    for _ in range(4):
        page.press("PageUp")
        goal = float(re.search(r"--max-risk (\S+) ", page.text("#command"))[1])
        risk = 1 - shown(page)["right"] / 100
        assert risk - 0.0006 <= goal <= max(0.01, risk + 0.0106)
    page.click("#copy")
    page.wait("document.getElementById('copy').textContent !== 'Copy'")


def test_a_screen_reader_hears_the_result_once_it_rests(page, rows):
    page.focus("#slider")
    page.press("PageUp", times=3)
    kept = sum(r.confidence["stack"] >= threshold(page) for r in rows)
    page.wait(f"document.getElementById('status').textContent.startsWith('{kept} of 300 answers kept, ')")
    assert page.evaluate("document.getElementById('status').getAttribute('aria-live')") == "polite"
    tree = page.call("Accessibility.getFullAXTree")["nodes"]
    named = {(n["role"]["value"], n["name"]["value"]) for n in tree if "name" in n and not n["ignored"]}
    for wanted in (
        ("slider", "Threshold"),
        ("combobox", "Source"),
        ("spinbutton", "Price of an answer"),
        ("spinbutton", "Price of an escalation"),
        ("spinbutton", "Right when escalated, %"),
        ("button", "Copy"),
        ("navigation", "Sections"),
    ):
        assert wanted in named
    assert any(role == "image" and name.startswith("Reliability diagram of stack.") for role, name in named)


def test_focus_is_seen(page):
    outlines = []
    for _ in range(14):
        page.press("Tab")
        outlines.append(page.evaluate("parseFloat(getComputedStyle(document.activeElement).outlineWidth)"))
    assert min(outlines) >= 2


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [320, 390, 1200])
def test_nothing_runs_over_the_side(browser, rows, tmp_path, width, dark):
    file = tmp_path / "report.html"
    file.write_text(render(with_every_part(evaluate(rows, resamples=5)), rows), encoding="utf-8")
    with browser.open(file.as_uri(), width=width, dark=dark) as page:
        page.evaluate("document.querySelectorAll('details').forEach(e => e.open = true)")
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches") == dark
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", paper))) < 120) == dark


def test_what_is_folded_is_printed(page):
    folded = "document.querySelectorAll('details:not([open])').length"
    assert page.evaluate(folded) > 3
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate(folded) == 0
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate(folded) > 3


def test_hostile_text_does_not_run(browser, tmp_path):
    name = f"stack {HOSTILE}"
    rows = records(hostile=HOSTILE, source=name)
    file = tmp_path / "hostile.html"
    file.write_text(render(with_every_part(evaluate(rows, resamples=5), HOSTILE), rows), encoding="utf-8")
    with browser.open(file.as_uri()) as page:
        page.settle(0.5)
        assert page.errors == []  # a script that runs opens a dialog, one that is stopped is reported
        assert page.requests == [file.as_uri()]
        assert page.evaluate("document.scripts.length") == 2
        assert page.evaluate("document.images.length") == 0
        assert "<script>alert(1)</script>" in page.text(".answer")
        page.focus("#slider")
        page.press("PageUp")
        assert math.isfinite(shown(page)["right"])
        assert "onerror" in page.text("#command")


def test_the_policy_stops_a_script_that_got_in(browser, path, tmp_path):
    """The second lock: were something not escaped, it would still not run, nor fetch anything."""
    file = tmp_path / "broken.html"
    inserted = (
        "<script>document.title = 'ran'</script><img src='file:///nothing.png' onerror=\"document.title = 'ran'\">"
    )
    file.write_text(path.read_text("utf-8").replace("</main>", inserted + "</main>"), encoding="utf-8")
    with browser.open(file.as_uri()) as page:
        page.settle(0.3)
        assert page.evaluate("document.title") != "ran"
        assert any("Content Security Policy" in error for error in page.errors)
