from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import confide
from confide.errors import ConfideError
from confide.methods.rlmf.format_stage import judgement_rows, split_entities, statement_rows, train_format
from confide.methods.rlmf.rlmf_config import FormatConfig
from confide.methods.rlmf.rollouts import Environment
from confide.methods.rlmf.stating import Graded
from stating_model import QUICK, graded_engine, saved, toy_records, toy_splits, toy_task

pytestmark = pytest.mark.usefixtures("one_thread")


def test_rows_end_in_the_grade_of_their_own_leave_one_out_agreement():
    stating = Graded(graded_engine())
    rows = statement_rows(Environment(stating, toy_task()), toy_records(8), QUICK)
    assert len(rows) == 16
    for row in rows:
        target = stating.ids.index(row.input_ids[-1])
        even = int(row.id[1:]) % 2 == 0
        assert target == 10 if even else target in (0, 2)  # six answers, every place once or twice: 0/5 or 1/5
        start, end = row.answer
        assert row.labels[:start] == [-100] * start
        assert row.labels[start:] == row.input_ids[start:]
        assert end == len(row.input_ids) - 1


def test_constant_and_shuffled_targets_know_nothing_of_the_question():
    stating, records = Graded(graded_engine()), toy_records(24)
    grades = {}
    for target in ("consistency", "constant", "shuffled"):
        settings = FormatConfig(**{**vars(QUICK), "target": target})
        rows = statement_rows(Environment(stating, toy_task()), records, settings)
        grades[target] = [stating.ids.index(row.input_ids[-1]) for row in rows]
    assert len(set(grades["constant"])) == 1
    assert grades["constant"][0] == round(np.mean(grades["consistency"]))
    assert sorted(grades["shuffled"]) == sorted(grades["consistency"])
    assert grades["shuffled"] != grades["consistency"]


def test_the_self_judgement_learns_whether_what_was_stated_is_near_g():
    stating = Graded(graded_engine())
    with torch.no_grad():  # every token alike, so that grades are sampled now and then
        stating.engine.model.get_output_embeddings().weight *= 0
    environment = Environment(stating, toy_task())
    questions = environment.question_prompts(toy_records(4))
    rows = judgement_rows(environment, questions, FormatConfig(**{**vars(QUICK), "rollouts": 40}))
    assert rows
    for row in rows:
        assert row.labels[-1] in (stating.ids[0], stating.ids[10])
        assert set(row.labels[:-1]) == {-100}
        assert row.input_ids[-1 - len(stating.query) : -1] == stating.query


def test_records_without_samples_or_with_too_few_are_refused(tmp_path):
    train, validation = toy_splits()
    for samples, sentence in ((None, "q0 has 0 samples: annotate with --samples"), (4, "take at least 6")):
        rows = [r.model_copy(update={"samples": r.samples[:samples] if samples else None}) for r in train]
        with pytest.raises(ConfideError, match=sentence):
            train_format("none", toy_task(), rows, validation, QUICK, tmp_path / "out")
    few = FormatConfig(**{**vars(QUICK), "rollouts": 3})
    with pytest.raises(ConfideError, match="take at least 6"):
        train_format("none", toy_task(), train, validation, few, tmp_path / "out")


def test_samples_that_were_all_cut_leave_nothing_to_train_on(tmp_path):
    train, validation = toy_splits()
    for record in train:
        record.samples = [sample.model_copy(update={"finish": "length"}) for sample in record.samples]
    with pytest.raises(ConfideError, match=r"no row for the part statements: of .* questions"):
        train_format(saved(tmp_path / "base"), toy_task(), train, validation, QUICK, tmp_path / "out")


def test_a_judge_compares_answers_in_every_part_of_the_format_stage():
    class Judge:
        name = "judge"

        def left_out(self, answers, claims):
            return [[0.5] * len(row) for row in claims]

    stating = Graded(graded_engine())
    rows = statement_rows(Environment(stating, toy_task(), Judge()), toy_records(4), QUICK)
    assert {stating.ids.index(row.input_ids[-1]) for row in rows} == {5}


def test_the_parts_of_the_format_stage_share_no_entity():
    rows = [r.model_copy(update={"entity": f"e{i % 5}"}) for i, r in enumerate(toy_records(20))]
    one, other = split_entities(rows, 0.4, 0)
    assert {r.entity for r in one}.isdisjoint({r.entity for r in other})
    assert len(other) == 8


def test_the_format_stage_is_seen_on_validation_rows_and_not_trained_twice(formed):
    folder, found = formed
    assert {"parsed", "f_spearman", "spearman"} <= set(found["validation"])
    assert found["judged_rows"] >= 0
    again = train_format(str(folder / "base"), toy_task(), *toy_splits(), QUICK, folder / "format")
    assert again == json.loads((folder / "format" / "format.json").read_text())
    model = confide.load(folder / "format")
    assert model.info.confidence.statement == "graded"
    assert set(model.engine.grades) <= set(model.engine.model.generation_config.eos_token_id)
    with pytest.raises(ConfideError, match=r"config.rank 4, now 2"):
        train_format(
            str(folder / "base"),
            toy_task(),
            *toy_splits(),
            FormatConfig(**{**vars(QUICK), "rank": 2}),
            folder / "format",
        )
