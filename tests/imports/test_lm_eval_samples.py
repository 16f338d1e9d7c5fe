"""Samples that lm-evaluation-harness 0.4.13 wrote: of its dummy model (choices), and of a server (written answers)."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from confide.errors import ConfideError
from confide.imports import import_log
from confide.methods.free import option_probability

DATA = Path(__file__).parent / "data"
CHOICE = next(DATA.glob("samples_cities_choice_*.jsonl"))
WRITTEN = next(DATA.glob("samples_cities_generate_*.jsonl"))


def changed(tmp_path: Path, **values: Any) -> Path:
    """The samples of choices, with other values in the first."""
    lines = CHOICE.read_text().splitlines()
    lines[0] = json.dumps(json.loads(lines[0]) | values)
    path = tmp_path / "samples.jsonl"
    path.write_text("\n".join(lines))
    return path


def test_the_likeliest_option_is_the_answer() -> None:
    found = import_log(CHOICE)
    records = found.records("samples")
    assert (found.tool, found.label, found.labels) == ("lm-evaluation-harness", "acc", ["acc", "acc_norm"])
    for record, line in zip(records, CHOICE.read_text().splitlines(), strict=True):
        sample = json.loads(line)
        sums = [float(one[0][0]) for one in sample["resps"]]
        assert record.answer == sample["doc"]["choices"][sums.index(max(sums))]
        assert record.correct == (sample["acc"] == 1)
        assert record.choices == sample["doc"]["choices"]
        assert record.question == sample["doc"]["question"]
        assert record.confidence["logprob_sum"] == max(sums)
        assert record.confidence["option_probability"] == pytest.approx(
            math.exp(max(sums)) / sum(math.exp(one) for one in sums)
        )
        assert record.option_logprobs is None  # sums, where options have several tokens
    assert records[0].id == "cities_choice-0"


def test_options_of_one_letter_give_their_log_probabilities(tmp_path: Path) -> None:
    first = json.loads(CHOICE.read_text().splitlines()[0])
    letters = {f"gen_args_{i}": {"arg_0": "Which?", "arg_1": f" {letter}"} for i, letter in enumerate("ABC")}
    record = import_log(changed(tmp_path, arguments=letters)).records("samples")[0]
    assert record.option_logprobs == [float(one[0][0]) for one in first["resps"]]
    assert option_probability(record) == record.confidence["option_probability"]


def test_options_in_the_prompt_are_told_apart(tmp_path: Path) -> None:
    prompts = {f"gen_args_{i}": {"arg_0": f"The {one}", "arg_1": " fell."} for i, one in enumerate(("a", "b", "c"))}
    record = import_log(changed(tmp_path, arguments=prompts)).records("samples")[0]
    assert record.choices == ["The a fell.", "The b fell.", "The c fell."]


@pytest.mark.parametrize(("only", "expected"), [(None, [1, 0, 1, 1, 1, 0]), ("none", [1, 0, 0, 1, 1, 0])])
def test_written_answers_are_those_of_one_filter(only: str | None, expected: list[int]) -> None:
    records = import_log(WRITTEN, only=only).records("samples")
    assert [record.correct for record in records] == [bool(one) for one in expected]
    assert records[2].answer == ("Peru, in the Andes" if only else "Peru")
    assert records[2].question == "In which country is Cusco?"
    assert records[0].logprobs == []  # the harness keeps none


@pytest.mark.parametrize("prompt", ['[{"name": "Cusco"}] Where is it?', '[{"name": "Cusco"}]', "[]", "3"])
def test_a_prompt_that_looks_like_turns_is_text(tmp_path: Path, prompt: str) -> None:
    options = {f"gen_args_{i}": {"arg_0": prompt, "arg_1": f" {one}"} for i, one in enumerate(("a", "b", "c"))}
    assert import_log(changed(tmp_path, arguments=options)).records("samples")[0].question == prompt


def test_another_metric_may_say_what_is_right() -> None:
    assert import_log(CHOICE, label="acc_norm").label == "acc_norm"


@pytest.mark.parametrize(
    ("values", "label", "said"),
    [
        ({}, "bleu", "has no metric bleu; there are: acc, acc_norm"),
        ({"acc": 0.4}, None, "line 1: acc is 0.4, and only 0 or 1"),
        ({"acc": "yes"}, None, "line 1: acc is 'yes'"),
        ({"resps": []}, None, "line 1 is no sample"),
        ({"arguments": None}, None, "line 1 is no sample"),
        ({"arguments": {"gen_args_0": {"arg_1": " Japan"}}}, None, "line 1 is no sample"),
        ({"resps": [[["low", "False"]]] * 3}, None, "line 1 is no sample"),
    ],
)
def test_a_bad_sample_is_named(tmp_path: Path, values: dict[str, Any], label: str | None, said: str) -> None:
    with pytest.raises(ConfideError, match=said):
        import_log(changed(tmp_path, **values), label=label)


def test_an_unknown_filter_is_named() -> None:
    with pytest.raises(ConfideError, match="no filter flexible; there are: strict, none"):
        import_log(WRITTEN, only="flexible")


def test_what_the_model_did_not_answer_itself_is_left_out(tmp_path: Path) -> None:
    given = {"gen_args_0": {"arg_0": "Once", "arg_1": " upon a time"}}
    found = import_log(changed(tmp_path, arguments=given))
    assert sum(found.left_out.values()) == 1
    assert len(found.records("samples")) == 5
