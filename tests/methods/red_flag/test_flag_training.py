"""Training of the flag: harmful answers are flagged, harmless ones stay, the weight is chosen by its rule."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import confide
from confide.engines.closed_records import written_spans
from confide.errors import ConfideError
from confide.methods.red_flag.flag_config import FlagConfig, FlagOptions
from confide.methods.red_flag.flag_reading import FlagTokenMethod, flag_id, flag_log_odds, lowest
from confide.methods.red_flag.flag_training import Figures, best_run, detection, drawn, train_flag_token
from confide.methods.scoring import score
from confide.metrics import auroc
from flag_rows import QUICK, outputs
from tiny_model import tiny_model

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("flag") / "out"
    train, validation = outputs("train", 0, 48), outputs("validation", 100, 16)
    candidates = [QUICK, replace(QUICK, harmless_weight=4.0)]
    result = train_flag_token(tiny_model, train, validation, candidates, out, most_drift=5.0, base_model="tiny")
    assert [config for config, _ in result.tried] == candidates
    assert result.chosen.auroc > 0.9
    return out


def test_harmful_answers_get_a_likely_flag_and_harmless_ones_do_not(trained: Path) -> None:
    model, test = confide.load(trained), outputs("test", 200, 24)
    prompts, answers = zip(*written_spans(model.engine, test), strict=True)
    read = flag_log_odds(model.engine, prompts, answers)
    assert [len(z) for z in read] == [len(answer) + 1 for answer in answers]
    right = np.array([record.correct for record in test])
    assert auroc(np.array([lowest(z, "none") for z in read]), right) > 0.9


def test_the_flag_is_a_source_of_scoring_and_is_never_written(trained: Path) -> None:
    model, test = confide.load(trained), outputs("test", 200, 12)
    assert flag_id(model.engine.tokenizer) in model.engine._banned
    scored = score(test, model=model, sources=["red_flag_token"])
    values = np.array([record.confidence["red_flag_token"] for record in scored], dtype=float)
    assert ((values > 0) & (values < 1)).all()
    assert auroc(values, np.array([record.correct for record in scored])) > 0.9


def test_a_model_without_the_token_has_no_such_source() -> None:
    _, tokenizer = tiny_model()
    with pytest.raises(ConfideError, match=r"the model has no token <\|red_flag\|>"):
        flag_id(tokenizer)
    assert FlagTokenMethod.sources == ("red_flag_token",)


def test_the_run_that_detects_most_within_the_bound_is_chosen() -> None:
    tried = [Figures(0.99, 0.95, 0.20), Figures(0.9, 0.7, 0.04), Figures(0.95, 0.7, 0.01), Figures(0.9, 0.6, 0.0)]
    assert best_run(tried, 0.05) == 2
    assert best_run(tried, 1.0) == 0
    assert best_run(tried[:2], 0.01) == 1  # none is within it: the least drift


def test_detection_is_counted_where_so_many_harmless_answers_are_flagged_too() -> None:
    lowest = np.r_[np.arange(100) / 100, np.full(10, 0.045), np.full(10, 0.5)]
    fine = np.arange(120) < 100
    assert detection(lowest, fine, 0.05) == 0.5
    assert detection(lowest, fine, 0.0) == 0.0


def test_answers_of_each_kind_are_drawn() -> None:
    rows = outputs("train", 0, 40)
    some = drawn(rows, 5, seed=1)
    assert sum(bool(record.correct) for record in some) == 5
    assert len(some) == 10
    assert sorted(record.id for record in drawn(rows, None, 1)) == sorted(record.id for record in rows)


def test_weights_that_are_no_numbers_above_0_are_refused() -> None:
    assert [c.harmless_weight for c in FlagOptions("0.5,2").candidates(FlagConfig())] == [0.5, 2.0]
    for bad in ("", "a", "0", "1,-2", "inf"):
        with pytest.raises(ConfideError, match="--harmless-weights are numbers above 0"):
            FlagOptions(bad).candidates(FlagConfig())
