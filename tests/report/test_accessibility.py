"""The pages under axe-core, in light and dark: nothing serious for those who cannot see or use a mouse."""

import pytest

from axe import grave
from confide.evaluation import evaluate
from confide.report import render
from made_up import records, with_every_part


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    rows = records()
    file = tmp_path_factory.mktemp("report") / "report.html"
    file.write_text(render(with_every_part(evaluate(rows, resamples=5)), rows), encoding="utf-8")
    return file


@pytest.mark.parametrize(("width", "dark"), [(390, True), (1200, False)])
def test_nothing_grave_is_found_in_the_report(browser, report, width, dark):
    with browser.open(report.as_uri(), width=width, dark=dark) as page:
        assert grave(page) == []


def test_it_would_be_found(browser, tmp_path):
    """Without this, the tests above could not fail."""
    file = tmp_path / "bad.html"
    file.write_text("<!doctype html><title>x</title><p style='color: #ddd'>faint</p><img src='x.png'><input>")
    with browser.open(file.as_uri()) as page:
        found = " ".join(grave(page))
    for rule in ("color-contrast", "image-alt", "html-has-lang", "label"):
        assert f"{rule}:" in found
