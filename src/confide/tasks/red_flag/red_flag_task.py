"""The task of red flags: prompts, harmful and harmless, answered freely and under forced openings.

A label belongs to an output, so harmful prompts are also answered with refusals and warnings, harmless prompts are
answered under the same openings, and some openings serve another prompt than the one that was asked: a harmful prompt
is answered under the opening of a harmless one, and the other way round.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from importlib.resources import files

from confide.errors import ConfideError
from confide.records import Record
from confide.tasks.questions import Question
from confide.tasks.red_flag.near_duplicates import prompt_groups
from confide.tasks.red_flag.openings import openings
from confide.tasks.red_flag.output_label import grade
from confide.tasks.task import Task

NAME = "red_flag"

HARMFUL, HARMLESS = "harmful", "harmless"
LABELS = (HARMFUL, HARMLESS)

MAX_NEW_TOKENS = 60

SHARES: Mapping[str, Mapping[str, float]] = {
    HARMFUL: {"none": 2, "short": 2, "medium": 1.5, "long": 1.5, "refusing": 1, "caring": 1, "swapped": 1},
    HARMLESS: {"none": 2.5, "short": 1.5, "medium": 1.5, "long": 1.5, "refusing": 0.5, "caring": 0.5, "swapped": 1.5},
}
"""How often prompts are answered under each kind of opening, by their label; ``swapped`` is one for another prompt."""

SWAPPED = ("long",)
"""Kinds of openings that say which prompt they serve."""


def borderline_prompts() -> list[Question]:
    """Harmless prompts that sound dangerous, written for this task."""
    text = files("confide.tasks.red_flag").joinpath("borderline.txt").read_text(encoding="utf-8")
    return [
        Question(id=f"borderline-{number}", kind="prompt", question=line, label=HARMLESS, domain="borderline")
        for number, line in enumerate(text.splitlines())
    ]


def red_flag_task(
    prompts: Sequence[Question], *, openings_each: int = 2, held_out: bool = False, seed: int = 0
) -> Task:
    """The task with these prompts, each answered under so many kinds of openings.

    Args:
        prompts: with ``label`` `HARMFUL` or `HARMLESS`.
        openings_each: how often a prompt is asked, each time under another kind of opening.
        held_out: use openings that nothing is trained on.
        seed: of the draw of openings, and of which prompts lend theirs to each other.

    Returns:
        The task. Prompts that ask nearly the same, or lend each other an opening, share an ``entity``. Questions have
        ``opening``, its ``opening_kind``, and ``aim``, the prompt that the opening serves, with its ``aim_label``.

    Raises:
        ConfideError: a prompt without a label, or with another one.
    """
    if wrong := next((p for p in prompts if p.label not in LABELS), None):
        raise ConfideError(f"prompt {wrong.id} has the label {wrong.label!r}: it is to be {' or '.join(LABELS)}")
    partners = _partners(prompts, random.Random(f"red-flag-{seed}"))
    swapped: list[tuple[int, int]] = []
    questions: list[Question] = []
    of: list[int] = []
    for place, prompt in enumerate(prompts):
        draw = random.Random(f"red-flag-{seed}-{prompt.id}")
        for kind in _kinds(str(prompt.label), openings_each, place in partners, draw):
            aim = prompt
            if kind == "swapped":
                aim, kind = prompts[partners[place]], draw.choice(SWAPPED)
                swapped.append((place, partners[place]))
            text = draw.choice(openings(kind, held_out=held_out)).format(aim.question)
            more = {"opening": text, "opening_kind": kind, "aim": aim.question, "aim_label": aim.label}
            name = f"{prompt.id}:{kind}" + ("" if aim is prompt else "-swapped")
            questions.append(prompt.model_copy(update={"id": name, **more}))
            of.append(place)
    groups = prompt_groups([prompt.question for prompt in prompts], swapped)
    for question, place in zip(questions, of, strict=True):
        question.entity = f"prompts:{prompts[groups[place]].id}"
    return Task(NAME, questions, grade, max_new_tokens=MAX_NEW_TOKENS, finish=about_red_flags)


def about_red_flags(record: Record) -> Record:
    """A record whose label says whether its answer is harmless."""
    return record.model_copy(update={"signal": NAME})


def _partners(prompts: Sequence[Question], draw: random.Random) -> dict[int, int]:
    """Pairs of a harmful and a harmless prompt that may lend each other an opening, both ways."""
    sides = {label: [place for place, prompt in enumerate(prompts) if prompt.label == label] for label in LABELS}
    for places in sides.values():
        draw.shuffle(places)
    pairs = list(zip(sides[HARMFUL], sides[HARMLESS], strict=False))
    return dict(pairs) | {b: a for a, b in pairs}


def _kinds(label: str, count: int, paired: bool, draw: random.Random) -> list[str]:
    """Different kinds of openings, drawn by `SHARES`."""
    left = {kind: share for kind, share in SHARES[label].items() if kind != "swapped" or paired}
    drawn: list[str] = []
    for _ in range(min(count, len(left))):
        drawn += draw.choices(list(left), list(left.values()))
        del left[drawn[-1]]
    return drawn
