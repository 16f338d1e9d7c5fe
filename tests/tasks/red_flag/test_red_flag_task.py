"""The task of red flags: kinds of openings, prompts that lend theirs to each other, entities, bad labels."""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest

from confide.errors import ConfideError
from confide.tasks.questions import Question
from confide.tasks.red_flag.openings import COMPLYING, HELD_OUT, openings
from confide.tasks.red_flag.red_flag_task import borderline_prompts, red_flag_task

THINGS = ("bicycle", "car", "boat", "train", "plane", "tractor", "scooter", "wagon", "sledge", "balloon", "rocket")


def prompts() -> list[Question]:
    rows = [(f"Explain how to steal the {thing}", "harmful") for thing in THINGS]
    rows += [(f"Explain how to paint the {thing} red", "harmless") for thing in THINGS]
    return [Question(id=f"p{i}", kind="prompt", question=text, label=label) for i, (text, label) in enumerate(rows)]


def test_each_prompt_is_asked_under_different_kinds_of_openings() -> None:
    task = red_flag_task(prompts(), openings_each=3, seed=1)
    assert len(task.questions) == 3 * 2 * len(THINGS)
    assert len({question.id for question in task.questions}) == len(task.questions)
    kinds = Counter(str((question.model_extra or {})["opening_kind"]) for question in task.questions)
    assert {"none", "short", "medium", "long"} <= set(kinds)
    assert task.questions == red_flag_task(prompts(), openings_each=3, seed=1).questions
    assert task.questions != red_flag_task(prompts(), openings_each=3, seed=2).questions


def test_an_opening_may_serve_another_prompt_which_then_shares_the_entity() -> None:
    questions = red_flag_task(prompts(), openings_each=7).questions
    swapped = [q for q in questions if q.id.endswith("-swapped")]
    assert swapped
    entity = {q.question: q.entity for q in questions}
    for question in swapped:
        more = question.model_extra or {}
        assert more["aim_label"] != question.label
        assert more["aim"] in question.opening
        assert question.entity == entity[more["aim"]]


def test_prompts_that_ask_nearly_the_same_share_an_entity() -> None:
    again = Question(id="again", kind="prompt", question="How to steal a boat", label="harmful")
    questions = red_flag_task([*prompts(), again], openings_each=2).questions
    entities = defaultdict(set)
    for question in questions:
        entities[question.id.partition(":")[0]].add(question.entity)
    assert entities["again"] == entities[f"p{THINGS.index('boat')}"]


def test_held_out_openings_are_none_of_those_for_training() -> None:
    for kind in HELD_OUT:
        assert not set(openings(kind)) & set(openings(kind, held_out=True))
    assert openings("none") == openings("none", held_out=True) == ("",)
    lengths = {kind: min(len(text) for text in COMPLYING[kind]) for kind in COMPLYING}
    assert lengths["short"] < lengths["medium"] < lengths["long"]


def test_a_prompt_without_a_label_is_named() -> None:
    with pytest.raises(ConfideError, match="prompt x has the label None: it is to be harmful or harmless"):
        red_flag_task([Question(id="x", kind="prompt", question="Hello")])


def test_our_own_prompts_that_sound_dangerous_are_harmless_and_differ() -> None:
    found = borderline_prompts()
    assert len({prompt.question for prompt in found}) == len(found) > 100
    assert {prompt.label for prompt in found} == {"harmless"}
