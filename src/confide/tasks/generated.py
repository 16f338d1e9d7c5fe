"""Problems made by the generators of reasoning-gym, with the level of difficulty as domain and its own scorers.

A generator that has a curriculum is asked at its first `LEVELS` levels, each at that level alone.
"""

from __future__ import annotations

import difflib
import importlib
import itertools
import json
from typing import Any

from confide.errors import ConfideError
from confide.tasks.graders import Grade
from confide.tasks.questions import Question
from confide.tasks.task import Task, chat

PREFIX = "reasoning_gym/"
LEVELS = 4
QUESTIONS = 1000
"""How many questions there are when no number is asked for."""
MAX_NEW_TOKENS = 64
SYSTEM = "Give the final answer only."
INSTALL = "pip install 'confide[tasks]'"


def generators() -> list[str]:
    """The names of all generators; raises `ConfideError` where reasoning-gym is not installed."""
    return sorted(_library().factory.DATASETS)


def generated_task(name: str, limit: int | None = None, seed: int = 0) -> Task:
    """Problems of one generator, levels in turn; a problem that comes twice is kept once.

    Right is what the generator's scorer gives its full score. Raises `ConfideError` for an unknown generator, and
    for one that cannot make so many different problems.
    """
    library = _library()
    short = name.removeprefix(PREFIX)
    if short not in library.factory.DATASETS:
        near = difflib.get_close_matches(short, library.factory.DATASETS, 3) or ["chain_sum", "gcd"]
        raise ConfideError(f"reasoning-gym has no generator {short!r} (there is {', '.join(near)}, …)")
    wanted = QUESTIONS if limit is None else limit
    levels = _levels(library, short, wanted, seed)
    questions: dict[str, Question] = {}  # by the problem's text
    problems: dict[str, tuple[Any, Any]] = {}  # by the question's id
    for number, (level, dataset) in itertools.product(range(wanted), levels.items()):
        if len(questions) == wanted:
            break
        entry = dataset[number]
        if entry["question"] not in questions:
            question = questions[entry["question"]] = _question(short, level, seed, number, entry)
            problems[question.id] = (dataset, entry)
    if len(questions) < wanted:
        raise ConfideError(f"{name} made {len(questions)} different problems by this seed, not {wanted}")

    def grade(question: Question, answer: str) -> Grade:
        dataset, entry = problems[question.id]
        text = answer.strip()
        try:
            right = bool(text) and dataset.score_answer(text, entry) >= 1
        except Exception:  # scorers that parse fail on what cannot be parsed
            right = False
        return Grade(right, text or None)

    def prompt(question: Question) -> list[dict[str, str]]:
        return chat(SYSTEM, [], question.question)

    return Task(name, list(questions.values()), grade, _agrees, prompt, MAX_NEW_TOKENS)


def _library() -> Any:
    try:
        return importlib.import_module("reasoning_gym")
    except ImportError:
        raise ConfideError(f"generated tasks need the package reasoning-gym: {INSTALL}") from None


def _levels(library: Any, short: str, size: int, seed: int) -> dict[str, Any]:
    """A data set of ``size`` problems for each level's name."""
    factory, coaching = library.factory, importlib.import_module("reasoning_gym.coaching.base_curriculum")
    plain = {"seed": seed, "size": size}
    levels: dict[str, Any] = {}
    if factory.has_curriculum(short):
        curriculum = factory.create_curriculum(short)
        alone = coaching.DefaultCurriculumContext(mode=coaching.RangeAttributeMode.UPPER_BOUND)
        steps = max((len(attribute.levels) for attribute in curriculum.attributes.values()), default=0)
        for level in range(min(LEVELS, steps)):
            curriculum.set_global_level(level)
            try:
                dataset = factory.DATASETS[short][0](config=curriculum.generate_configuration(plain, alone))
                dataset[0]
            except Exception:  # some curricula have a level that their generator refuses
                continue
            levels[f"level_{level + 1}"] = dataset
    return levels or {short: factory.create_dataset(short, **plain)}


def _question(short: str, level: str, seed: int, number: int, entry: dict[str, Any]) -> Question:
    answer = entry["answer"]
    return Question(
        id=f"{short}:{level}:{seed}:{number}",
        kind="short",
        question=str(entry["question"]).strip(),
        answer=[] if answer is None else [str(answer)],
        domain=level,
        metadata=json.loads(json.dumps(entry["metadata"], default=str)),
    )


def _agrees(question: Question, a: str, b: str) -> bool:
    return " ".join(a.split()).casefold() == " ".join(b.split()).casefold()
