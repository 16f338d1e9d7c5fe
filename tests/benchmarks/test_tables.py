"""The pages of the docs say what the results say, and results are written as readers need them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import common, hedges, large_files, merged_draws, scale_tables
from benchmarks.engines import engines_tables, ray_workers
from benchmarks.inside import (
    asking_tables,
    early_stop_tables,
    fields_tables,
    red_flag_tables,
    red_flag_token_tables,
    token_cost_tables,
)
from benchmarks.policies import guarantee
from benchmarks.quality import (
    estimators_tables,
    front_page_tables,
    frozen_tables,
    increments_tables,
    long_form_tables,
    trained_tokens_tables,
    travel_tables,
)
from benchmarks.rlmf import rlmf_step, rlmf_tables
from benchmarks.serving import serving_tables, store_reads
from benchmarks.speed import speed_tables

RESULTS = common.ROOT / "docs" / "results"
PAGES = (
    "README.md",
    "docs/how-to/ray.md",
    "docs/how-to/red-flags.md",
    "docs/scale.md",
    *(f"docs/results/{path.name}" for path in sorted(RESULTS.glob("*.md"))),
)


def test_every_table_in_the_docs_is_that_of_its_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {}
    (tmp_path / "docs" / "results").mkdir(parents=True)
    for page in PAGES:
        before[page] = (common.ROOT / page).read_text(encoding="utf-8")
        (tmp_path / page).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / page).write_text(before[page], encoding="utf-8")
    monkeypatch.setattr(common, "ROOT", tmp_path)

    def result(name: str) -> common.Json:
        return common.read_json(common.RESULTS / f"{name}.json")

    asking_tables.write(result("agent"))
    increments_tables.write(result("increments"))
    front_page_tables.write(result("front_page"))
    hedges.write(result("hedges"))
    trained_tokens_tables.write(result("trained_tokens"))
    long_form_tables.write(result("long_form"))
    frozen_tables.write(result("frozen"))
    estimators_tables.write(result("estimators"))
    travel_tables.write(result("travel"))
    rlmf_tables.write(result("rlmf"), sentences=False)
    rlmf_tables.write(result("rlmf-sentences"), sentences=True)
    rlmf_step.write(result("rlmf_step"))
    guarantee.write(result("guarantee"))
    common.put(large_files.PAGE, large_files.tables(result("large_files")))
    merged_draws.write(result("merged_draws"))
    common.put(scale_tables.PAGE, scale_tables.tables(result("scale"), scale_tables.Plan()))
    serving_tables.write()
    engines_tables.write()
    ray_workers.write(result("ray_workers"))
    store_reads.write(result("store_reads"))
    speed_tables.write(result("speed"))
    fields_tables.write(result("fields"))
    token_cost_tables.write(result("token_cost"))
    red_flag_tables.write(result("red_flag"))
    red_flag_token_tables.write(result("red_flag_token"))
    early_stop_tables.write(result("steps"))
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


def entry(value: float) -> common.Json:
    return {"value": value, "low": value - 0.01, "high": value + 0.01}


def increments(*sources: str) -> common.Json:
    """Three seeds of every world, in which these sources have 0.25, 0.5 and 0.75."""
    cells = [
        {
            "split": split,
            "asked": increments_tables.SHOWN,
            "sets": {
                "test": {
                    "best_free": "logprob_sum",
                    "sources": {s: {"auroc": entry(value), "within_answer": value / 2} for s in sources},
                }
            },
        }
        for split in increments_tables.WORLDS
        for value in (0.25, 0.5, 0.75)
    ]
    return {"cells": cells}


def test_a_ladder_leaves_out_what_was_not_measured_and_dashes_the_worlds_where_a_seed_is_missing() -> None:
    result = increments("logprob_sum", "stack", "probe")
    del result["cells"][4]["sets"]["test"]["sources"]["stack"]  # the second seed of the second world
    for cell in result["cells"]:
        del cell["sets"]["test"]["sources"]["probe"]
    shown = increments_tables.ladder_table(result, ("free", "stack", "probe"), increments_tables.SHOWN)
    _, _, free, stack = shown.splitlines()
    assert free.endswith(" | 0.500 | 0.500 | 0.500 | 0.500 | 0.250 |")
    assert stack.endswith(" | 0.500 | – | 0.500 | 0.500 | 0.250 |")


def test_calibrated_scores_are_shown_once_every_world_has_them() -> None:
    result = increments("logprob_sum", "stack")
    for number, cell in enumerate(result["cells"]):
        assert increments_tables.scores_section(result) == "", number
        block = cell["sets"]["test"]
        block["scores"] = {
            s: {"brier": entry(0.1 * (1 + number % 3)), "log_loss": entry(0.6)} for s in block["sources"]
        }
    del result["cells"][0]["sets"]["test"]["scores"]["stack"]
    title, _, _, _, _, _, free, stack = increments_tables.scores_section(result).splitlines()
    assert title.startswith("## ")
    assert free.endswith(" | 0.200 | 0.200 | 0.200 | 0.200 | 0.600 | 0.600 | 0.600 | 0.600 |")
    assert stack.endswith(" | – | 0.200 | 0.200 | 0.200 | – | 0.600 | 0.600 | 0.600 |")


ESTIMATED = (*estimators_tables.RANKING, *estimators_tables.CALIBRATION)


def judged(**values: float) -> common.Json:
    return {
        source: {"n": 9, "cost": {"tokens": 2.0, "seconds": 0.001}, **{m: entry(value) for m in ESTIMATED}}
        for source, value in values.items()
    }


def test_a_source_that_adds_is_told_from_one_whose_interval_holds_zero() -> None:
    entries = judged(p_true=0.5, p_true_calibrated=0.25, verifier=0.5, logprob_sum=0.75, stack=0.875)
    over = {"p_true": entry(0.02), "verifier": entry(0.005), "stack": entry(0.5)}
    results = {"n": 9, "accuracy": 0.5, "cut": 0.0, "estimators": entries}
    results["controls"] = {"improves_log_loss": {"sources": over}}
    cell = estimators_tables.slim({"task": "geography", "seed": 0, "results": results})
    assert set(cell["sources"]) == {"logprob_sum", "p_true", "verifier"}
    free, asked, verifier = estimators_tables.quality([cell]).splitlines()[2:]
    assert free == "| `logprob_sum` | 9 | 0.750 | 0.750 | 0.750 | 0.750 | 0.750 | – | 2.0 | 1.0 |"
    assert asked == "| `p_true` | 9 | 0.500 | 0.500 | 0.250 | 0.250 | 0.250 | yes | 2.0 | 1.0 |"
    assert " | no | " in verifier


def test_what_depends_on_a_draw_is_a_mean_over_the_draws() -> None:
    cells = []
    for seed, value in enumerate((0.25, 0.75)):
        entries = judged(answer_only=value) | ({} if seed else judged(logprob_sum=0.5))
        results = {"n": 9, "accuracy": 0.5, "cut": 0.0, "estimators": entries, "controls": {}}
        cells.append(estimators_tables.slim({"task": "geography", "seed": seed, "results": results}))
    free, prior = estimators_tables.quality(cells).splitlines()[2:]
    assert free.startswith("| `logprob_sum` | 9 | 0.500 |")
    assert prior.startswith("| `answer_only` | 9 | 0.500 |")
