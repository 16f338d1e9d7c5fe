"""The pages of the docs say what the results say, and results are written as readers need them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import common, large_files
from benchmarks.engines import engines_tables
from benchmarks.policies import guarantee
from benchmarks.quality import (
    estimators_tables,
    frozen_tables,
    increments_tables,
    quality_tables,
    sensitivity,
    travel_tables,
)
from benchmarks.rlmf import rlmf_step, rlmf_tables
from benchmarks.serving import serving_tables, store_reads

PAGES = (
    "README.md",
    *(
        f"docs/{n}.md"
        for n in (
            "quality",
            "frozen-results",
            "estimators",
            "sensitivity",
            "travel",
            "rlmf",
            "policies",
            "metrics",
            "serving-benchmark",
            "engines",
        )
    ),
)


def test_every_table_in_the_docs_is_that_of_its_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {}
    (tmp_path / "docs").mkdir()
    for page in PAGES:
        before[page] = (common.ROOT / page).read_text(encoding="utf-8")
        (tmp_path / page).write_text(before[page], encoding="utf-8")
    monkeypatch.setattr(common, "ROOT", tmp_path)

    def result(name: str) -> common.Json:
        return common.read_json(common.RESULTS / f"{name}.json")

    quality_tables.write(result("quality"))
    increments_tables.write(result("increments"))
    if (common.RESULTS / "frozen.json").exists():  # its protocol is committed first
        frozen_tables.write(result("frozen"))
    estimators_tables.write(result("estimators"))
    travel_tables.write(result("travel"))
    rlmf_tables.write(result("rlmf"), sentences=False)
    rlmf_tables.write(result("rlmf-sentences"), sentences=True)
    rlmf_step.write(result("rlmf_step"))
    sensitivity.write(result("sensitivity"))
    guarantee.write(result("guarantee"))
    large_files.write(result("large_files"))
    serving_tables.write()
    engines_tables.write()
    store_reads.write(result("store_reads"))
    assert {page: (tmp_path / page).read_text(encoding="utf-8") for page in PAGES} == before


def test_a_text_goes_between_its_marks_and_a_missing_place_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(common, "ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- one -->\nold\n<!-- /one -->\nb\n", encoding="utf-8")
    common.put("page.md", {"one": r"\1 new"})
    assert page.read_text(encoding="utf-8") == "a\n<!-- one -->\n\\1 new\n<!-- /one -->\nb\n"
    with pytest.raises(SystemExit, match="no place for two"):
        common.put("page.md", {"two": ""})


def test_results_are_short_and_show_what_the_whole_numbers_show(tmp_path: Path) -> None:
    tie = 0.03749999999999998  # 3.7 %, while 0.0375 is shown as 3.8 %
    found = {"cells": [{"value": 0.123456789, "low": tie, "n": 3}], "text": "a [b,  c]", "none": None}
    back = common.write_result(tmp_path / "result.json", "some.py", found)
    assert back["cells"] == [{"value": 0.123457, "low": tie, "n": 3}]
    assert back["text"] == found["text"]
    assert back["made_by"] == "benchmarks/some.py"
    assert back == json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))


def test_tables_align_columns_and_dash_what_is_missing() -> None:
    assert common.table(" | >n", [["a", 1]]) == "| | n |\n|---|---:|\n| a | 1 |"
    assert common.interval({"value": 0.5, "low": 0.25, "high": 0.75}, "+.2f") == "+0.50 [+0.25, +0.75]"
    assert common.interval({"value": 0.5, "low": None, "high": None}) == "0.500"
    assert common.interval(None) == "–"
