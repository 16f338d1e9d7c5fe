import pytest

from axe import grave
from confide.evaluation.comparison import compare
from confide.evaluation.pairs import Pairs
from confide.report.comparison_page import render_comparison
from made_up import HOSTILE
from two_runs import a_run


def page_of(a, b, **options):
    pairs = Pairs.of(a, b)
    return render_comparison(compare(pairs, resamples=20, **options), pairs)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    file = tmp_path_factory.mktemp("compared") / "compare.html"
    page = page_of(a_run(1, model="m" * 200)[3:], a_run(2, sharp=2, bias=0.2), names=("x" * 200, "runs/after"))
    file.write_text(page, encoding="utf-8")
    return file


def test_it_says_what_was_found(path):
    page = path.read_text("utf-8")
    for words in ("B answers better", "B’s confidence ranks better", "Now right", "3 rows are only in B: q0, q1, q2."):
        assert words in page
    assert page.count("Reliability diagram of stack in") == 2


@pytest.mark.parametrize(("width", "dark"), [(390, True), (1200, False)])
def test_it_fits_asks_for_nothing_and_nothing_grave_is_found(browser, path, width, dark):
    with browser.open(path.as_uri(), width=width, dark=dark) as page:
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert grave(page) == []
        assert page.errors == []
        assert page.requests == [path.as_uri()]


@pytest.mark.parametrize("change", [{"confidence": {}}, {"confidence": {"stack": 7.0}}, {"correct": True}])
def test_what_is_missing_leaves_a_page(change):
    rows = [r.model_copy(update=change) for r in a_run(1, n=3)]
    page = page_of(rows, rows)
    assert "No verdict" in page
    assert "None." in page


def test_hostile_text_does_not_run(browser, tmp_path):
    rows = [r.model_copy(update={"answer": f"{HOSTILE} {r.answer}", "model": HOSTILE}) for r in a_run(1)]
    other = [
        r.model_copy(
            update={"id": r.id, "answer": HOSTILE, "model": HOSTILE, "confidence": {HOSTILE: 0.5, "stack": 0.1}}
        )
        for r in a_run(2)
    ]
    file = tmp_path / "hostile.html"
    file.write_text(page_of(rows, other, names=(HOSTILE, HOSTILE)), encoding="utf-8")
    with browser.open(file.as_uri()) as page:
        page.settle(0.3)
        assert page.errors == []
        assert page.evaluate("document.scripts.length") == 1
        assert page.evaluate("document.images.length") == 0


@pytest.mark.parametrize(("risk", "words"), [(0.4, "within 40% wrong"), (0.2, "within 20% wrong")])
def test_the_ring_is_at_the_risk_that_was_asked_for(risk, words):
    page = page_of(a_run(1), a_run(2, sharp=2, bias=0.2), max_risk=risk)
    assert f"The ring is where B first stays {words}." in page
    assert "within 10% wrong" not in page
    never = page_of(
        a_run(1), [r.model_copy(update={"correct": r.confidence["stack"] < 0.2}) for r in a_run(2)], max_risk=risk
    )
    assert f"B stays {words} at no threshold" in never
