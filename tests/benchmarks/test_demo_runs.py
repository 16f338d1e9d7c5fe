"""The demo's times and pictures are those of its result."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks import common, demo_pictures, demo_runs

FOUND: common.Json = {
    "accuracy": 0.41,
    "auroc": {"stack": {"value": 0.923, "low": 0.9, "high": 0.94}},
    "promise": {"max_risk": 0.3, "level": 0.95, "coverage": 0.4, "n": 50},
    "fresh": {"checks": {"*": {"n": 400, "kept": 160, "observed": 0.151}}},
    "asked": {"In which country is Nagoya?": "Japan\nconfidence 0.99 <b>\n"},
}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_path_shows_the_figures_of_the_run(theme: str) -> None:
    text = "".join(ElementTree.fromstring(demo_pictures.path_picture(FOUND, theme)).itertext())
    for words in ("400 new ones", "41% of answers right", "92% of the time", "Answer · 40%", "15% wrong", "≤ 30%"):
        assert words in text
    assert "Escalate · 60%" in text


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_terminal_shows_what_was_printed_and_fetches_nothing(theme: str) -> None:
    picture = demo_pictures.ask_picture(FOUND["asked"], theme)
    text = "".join(ElementTree.fromstring(picture).itertext()).replace("\xa0", " ")
    assert '$ confide ask "In which country is Nagoya?"' in text
    assert "confidence 0.99 <b>" in text
    assert picture.count("http") == 1  # the name of SVG itself


def test_the_page_has_times_of_every_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common, "ROOT", tmp_path)
    monkeypatch.setattr(demo_pictures, "PICTURES", tmp_path / "pictures")
    (tmp_path / "docs" / "results").mkdir(parents=True)
    for page in ("README.md", "docs/results/demo.md"):
        (tmp_path / page).write_text("<!-- demo -->\n<!-- /demo -->\n")
    run = {"seconds": 200.0, "longest_silence": 5.5, "lines": 90}
    quick = [run | {"seconds": seconds} for seconds in (60.0, 90.0, 70.0)]
    demo_runs.write({"machine": {"device": "2 CPU cores"}, "full": [run], "quick": quick, "found": FOUND})
    assert "3 minutes on 2 CPU cores" in (tmp_path / "README.md").read_text()
    assert "| `confide demo --quick` | 60 s | 70 s | 6 s |" in (tmp_path / "docs/results/demo.md").read_text()
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == [
        "ask-dark.svg", "ask-light.svg", "path-dark.svg", "path-light.svg",
    ]  # fmt: skip
