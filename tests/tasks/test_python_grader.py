"""Grading by a function: what it is given, what it may say, and that its errors cost no answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from confide.errors import ConfideError
from confide.records import Record, Sample
from confide.tasks import Grade, Question, Task
from confide.tasks.marking import check_marked, mark
from confide.tasks.python_grader import graded_by
from question_turns import FIVE

QUESTION = Question.model_validate(
    {"id": "q1", "kind": "short", "question": "Where is Lyon?", "answer": ["France"], "tests": {"n": [1, 2]}}
)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Writes a module; gives its name, which is new each time."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", ["", *__import__("sys").path])

    def write(code: str, folder: str = ".") -> str:
        (tmp_path / folder).mkdir(exist_ok=True)
        name = f"grader_{abs(hash((tmp_path, code, folder)))}"
        (tmp_path / folder / f"{name}.py").write_text(code)
        return name

    return write


def marked(task: Task, answer: str = "It is in France", **more: Any) -> Record:
    return mark(task, task.questions[0], Record(id="q1", task="t", answer=answer, **more))


def task(*questions: Question) -> Task:
    return Task("t", list(questions) or [QUESTION])


@pytest.mark.parametrize(
    ("returns", "correct", "answered"),
    [
        ("True", True, "france"),
        ("False", False, "france"),
        ("None", None, "france"),
        ("__import__('numpy').bool_(1 > 0)", True, "france"),
        ("{'correct': True, 'answered': 'Lyon'}", True, "Lyon"),
        ("{'correct': False, 'answered': None}", False, None),
        ("{'correct': None}", None, "france"),
        ("__import__('confide').tasks.Grade(True, 'X')", True, "X"),
    ],
)
def test_what_a_function_may_say(
    module: Callable[[str], str], returns: str, correct: bool | None, answered: str | None
) -> None:
    name = module(f"import confide.tasks\ndef f(question, answer):\n    return {returns}\n")
    record = marked(graded_by(task(), f"{name}:f"))
    assert (record.correct, record.answered, record.grade_error) == (correct, answered, None)
    assert record.graded_by == f"{name}:f"


def test_a_function_sees_all_that_the_file_says_of_a_question(module: Callable[[str], str]) -> None:
    code = (
        "seen = []\ndef f(question, answer):\n    seen.append((question, answer))\n    question.clear()\n"
        "    return True\n"
    )
    name = module(code)
    conversation = Question.model_validate({"id": "q2", "kind": "prompt", "messages": FIVE, "rubric": "names a state"})
    made = graded_by(task(QUESTION, conversation), f"{name}:f")
    for question in made.questions:
        assert mark(made, question, Record(id=question.id, answer="x")).correct is True
    (first, answer), (second, _) = __import__(name).seen
    assert (first, answer) == ({}, "x")  # its own copy: clearing it harms nothing
    assert made.questions[0].question == "Where is Lyon?"
    code = (
        "def f(question, answer):\n    return question['tests'] == {'n': [1, 2]} and question['answer'] == ['France']\n"
    )
    assert marked(graded_by(task(), f"{module(code)}:f")).correct is True
    code = "def f(q, answer):\n    return q['messages'][0]['role'] == 'system' and q['rubric'] == 'names a state'\n"
    assert marked(graded_by(task(conversation), f"{module(code)}:f")).correct is True
    assert second == {}


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("raise ValueError('no\\nsuch key')", "ValueError: no such key"),
        ("return question['missing']", "KeyError: 'missing'"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("return 'yes'", "it returned 'yes'; wanted is True, False or None"),
        ("return 1", "it returned 1; wanted is"),
        ("return 0.5", "it returned 0.5; wanted is"),
        ("return {}", "it returned {}; wanted is"),
        ("return {'correct': 'yes'}", "it returned {'correct': 'yes'}; wanted is"),
        ("return {'correct': True, 'answered': 5}", "it returned {'correct': True, 'answered': 5}"),
        ("return {'correct': True, 'score': 1}", "it returned {'correct': True, 'score': 1}"),
        ("return (True, 'France')", "it returned (True, 'France')"),
        ("raise RuntimeError('x' * 5000)", "RuntimeError: xxx"),
    ],
)
def test_what_goes_wrong_is_kept_with_the_answer(
    module: Callable[[str], str], tmp_path: Path, body: str, told: str
) -> None:
    made = graded_by(task(), f"{module(f'def f(question, answer):{chr(10)}    {body}{chr(10)}')}:f")
    record = marked(made)
    assert (record.answer, record.correct, record.answered) == ("It is in France", None, None)
    assert str(record.grade_error).startswith(told)
    assert len(str(record.grade_error)) <= 300
    with pytest.raises(ConfideError, match=r"failed on 1 answers, first on that to the question q1: ") as raised:
        check_marked([marked(task()), record], tmp_path / "r.jsonl")
    assert "\n" not in str(raised.value)
    assert mark(task(), QUESTION, record).grade_error is None


def test_the_grader_of_the_api_costs_no_answer_either() -> None:
    def broken(question: Question, answer: str) -> Grade:
        raise KeyError(answer)

    record = marked(Task("t", [QUESTION], grade=broken))
    assert (record.correct, record.grade_error) == (None, "KeyError: 'It is in France'")
    samples = [Sample(answer="France"), Sample(answer="Chile")]
    assert marked(Task("t", [QUESTION], grade=broken), samples=samples).samples == samples


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("no_such_module:f", "No module named 'no_such_module'"),
        ("NAME:no_such", "has no attribute 'no_such'"),
        ("NAME", "module:function is wanted"),
        ("NAME:", "module:function is wanted"),
        (":f", "module:function is wanted"),
        ("", "module:function is wanted"),
        ("NAME:number", "is not callable"),
        ("NAME.py:f", "module:function is wanted"),
        ("no/such/folder/NAME_:f", "looked for in the folder no/such/folder"),
    ],
)
def test_a_function_that_is_not_there_is_refused_at_once(module: Callable[[str], str], spec: str, told: str) -> None:
    name = module("number = 5\ndef f(question, answer):\n    return True\n")
    with pytest.raises(ConfideError) as refused:
        graded_by(task(), spec.replace("NAME", name))
    assert told in str(refused.value)


@pytest.mark.parametrize("code", ["raise ValueError('boom')", "import sys\nsys.exit(3)", "def f(:"])
def test_a_module_that_fails_is_refused_at_once(module: Callable[[str], str], code: str) -> None:
    with pytest.raises(ConfideError, match="cannot import"):
        graded_by(task(), f"{module(code)}:f")


def test_a_module_may_lie_in_a_folder(module: Callable[..., str]) -> None:
    name = module("def f(question, answer):\n    return False\n", "graders")
    made = graded_by(task(), f"graders/{name}:f")
    assert marked(made).correct is False
    assert made.grader == f"{name}:f"  # the same wherever the folder lies


def test_samples_are_graded_and_agree_by_what_the_function_says_they_answer(module: Callable[[str], str]) -> None:
    code = (
        "calls = []\ndef f(question, answer):\n    calls.append(answer)\n"
        "    return {'correct': 'lyon' in answer.lower(), 'answered': answer.split()[-1].lower()}\n"
    )
    name = module(code)
    samples = [Sample(answer=text) for text in ("Lyon", "it is lyon", "Paris", "Paris")]
    record = marked(graded_by(task(), f"{name}:f"), "I say Lyon", samples=samples)
    assert record.consistency == 0.5
    assert [(s.correct, s.answered) for s in record.samples or []] == [
        (True, "lyon"), (True, "lyon"), (False, "paris"), (False, "paris"),
    ]  # fmt: skip
    assert sorted(__import__(name).calls) == sorted({"I say Lyon", *(s.answer for s in samples)})  # each text once


def test_an_option_is_graded_by_its_text(module: Callable[[str], str]) -> None:
    choice = Question(id="q1", kind="choice", question="Which?", choices=["red", "green"], answer=1)
    made = graded_by(
        task(choice),
        f"{module('def f(question, answer): return answer == chr(103) + chr(114) + chr(101) * 2 + chr(110)')}:f",
    )
    record = marked(made, "green", option_logprobs=[-2.0, -1.0], choices=["red", "green"])
    assert (record.correct, record.answered) == (True, "green")


def test_the_tasks_own_grader_marks_as_before() -> None:
    record = marked(task(), samples=[Sample(answer="France"), Sample(answer="Chile")])
    assert (record.correct, record.answered, record.consistency, record.graded_by) == (True, "france", 0.5, "")
    assert not {"graded_by", "grade_error"} & record.model_fields_set
    twice = Question(id="q1", kind="choice", question="Which?", choices=["a", "b", "b"], answer=2)
    chosen = marked(task(twice), "b", option_logprobs=[-2.0, -1.0, -1.0])
    assert (chosen.correct, chosen.answered) == (True, "b")
    cut = marked(task(), "", finish="length", samples=[Sample(answer="", finish="length")])
    assert cut.consistency == 0
