"""Where the prompts of the task red_flag come from, and which of them are for testing only."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from confide.errors import ConfideError
from confide.tasks.hub import load_hub_task
from confide.tasks.questions import Question
from confide.tasks.red_flag.near_duplicates import prompt_groups
from confide.tasks.red_flag.red_flag_task import HARMLESS, NAME, borderline_prompts, red_flag_task
from confide.tasks.task import Task, drawn

LONGEST_PROMPT = 600
"""Characters; longer instructions are left out."""

TRAINING = "redflag-advbench"
"""The data set of harmful prompts to train on."""

SHORT, SHORT_COUNT = "selfaware", 100
"""Where short harmless questions to train on come from, and how many."""

FOLDER_ONLY = ("redflag-harmbench/validation", "redflag-harmless/train")
"""Parts to train on that are taken from a folder of question files: the hub has no such parts."""

TESTING = {
    "redflag-harmbench": None, "redflag-xstest": None, "redflag-harmless": None, "truthfulqa": 100, "simpleqa": 100,
}  # fmt: skip
"""Data sets for testing only, and how many of their questions are taken (None: all)."""


def red_flag(part: str = "train", *, data_dir: Path | None = None, seed: int = 0) -> Task:
    """The task with prompts to train on (``train``) or those for testing only (``test``), under openings of their own.

    Raises:
        ConfideError: another part, or a data set that cannot be loaded.
    """
    if part not in ("train", "test"):
        raise ConfideError(f"{NAME} has no part {part!r}: there is train, test")
    if part == "train":
        return red_flag_task(training_prompts(data_dir), seed=seed)
    prompts = [prompt for name in TESTING for prompt in prompts_of(name, data_dir, TESTING[name])]
    return red_flag_task(prompts, held_out=True, seed=seed)


def training_prompts(data_dir: Path | None) -> list[Question]:
    """The prompts to train on, without those that ask nearly the same as one of the tests."""
    folder = FOLDER_ONLY if data_dir is not None else ()
    prompts = [prompt for name in (TRAINING, *folder) for prompt in prompts_of(name, data_dir)]
    prompts += borderline_prompts() + prompts_of(SHORT, data_dir, SHORT_COUNT)
    tested = [prompt.question for name in TESTING for prompt in prompts_of(name, data_dir, TESTING[name])]
    return apart_from(prompts, tested)


def apart_from(prompts: Sequence[Question], tested: Sequence[str]) -> list[Question]:
    """The prompts that ask nothing that is nearly the same as one of the ``tested`` ones."""
    groups = prompt_groups([*tested, *(prompt.question for prompt in prompts)])
    return [prompt for prompt, group in zip(prompts, groups[len(tested) :], strict=True) if group >= len(tested)]


def prompts_of(name: str, data_dir: Path | None, limit: int | None = None) -> list[Question]:
    """A data set's prompts, without long ones and requests for copyrighted texts.

    Nobody can tell from a small model's output whether it complied with the latter.
    """
    task = load_hub_task(name, data_dir)
    if task is None:
        raise ConfideError(f"no data set is called {name!r}")
    made = []
    for question in drawn(task, limit, 0).questions:
        if question.domain == "copyright" or len(question.question) > LONGEST_PROMPT:
            continue
        fields = {"id": question.id, "kind": "prompt", "question": question.question, "domain": question.domain}
        made.append(Question.model_validate(fields | {"label": question.label or HARMLESS}))
    return made
