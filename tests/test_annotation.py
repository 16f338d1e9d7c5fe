"""Annotation: a run killed with SIGKILL goes on and ends with the same answers as an unbroken one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from confide.annotation import SHARES, annotate, split_questions
from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.errors import ConfideError
from confide.records import read_records, write_records
from confide.tasks import Task, load_task
from confide.tasks.questions import Question
from confide.tasks.task import without_right_options
from tiny_model import tiny_model

RUN = """
import sys, time
from pathlib import Path
sys.path[:0] = [{tests!r}, {tests!r} + '/support']
from test_annotation import tiny_engine, tiny_task
from confide.annotation import annotate
annotate(tiny_engine(), tiny_task(), Path(sys.argv[1]), samples=2, batch_size=4, seed=3,
         progress=lambda *_: time.sleep({pause}))
"""


def tiny_engine(*, context: int = 256) -> TransformersEngine:
    model, tokenizer = tiny_model(context=context)
    return TransformersEngine(model.float(), tokenizer, "tiny")


def tiny_task(count: int = 40) -> Task:
    questions = [
        Question(
            id=f"q{i}", kind="short", question=f"Which country {'is ' * (i % 3)}{i}?", answer=["France"], domain="d"
        )
        for i in range(count)
    ]
    base = load_task("geography", limit=10)
    return Task(
        "tiny", questions, lambda q, a: base.grade(base.questions[0], a), lambda q, a, b: a == b,
        lambda q: [{"role": "user", "content": q.question}], 9,
    )  # fmt: skip


def run(path: Path, pause: float) -> subprocess.Popen[bytes]:
    tests = str(Path(__file__).parent)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", RUN.format(tests=tests, pause=pause), str(path)], env=environment)


def test_a_killed_run_continues_to_the_same_file(tmp_path: Path) -> None:
    whole, broken = tmp_path / "a" / "r.jsonl", tmp_path / "b" / "r.jsonl"
    assert run(whole, 0).wait() == 0
    process = run(broken, 0.3)
    while not broken.exists() or broken.read_bytes().count(b"\n") < 8:
        assert process.poll() is None, "finished before it could be killed"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    written = broken.read_bytes()
    assert 0 < len(written) < len(whole.read_bytes())
    # What a kill in the middle of a write leaves: half a line, in the middle of a batch.
    lines = written.splitlines(keepends=True)
    broken.write_bytes(b"".join(lines[:6]) + lines[6][:20])
    assert run(broken, 0).wait() == 0
    one, other = ([r.model_copy(update={"cost": {}}) for r in read_records(path)] for path in (broken, whole))
    assert one == other  # all but the time that it took
    assert len(read_records(broken)) == 40


def test_a_model_is_its_weights_and_not_its_name(tmp_path: Path) -> None:
    out = tmp_path / "r.jsonl"
    annotate(tiny_engine(), tiny_task(4), out)
    (tmp_path / "short.jsonl").write_text("".join(out.read_text().splitlines(keepends=True)[:2]))
    spelt = tiny_engine()
    spelt.name = "./tiny"
    assert annotate(spelt, tiny_task(4), tmp_path / "short.jsonl") == 2
    assert {record.model for record in read_records(tmp_path / "short.jsonl")} == {"tiny"}
    spelt.model.model.layers[0].mlp.up_proj.weight.data *= 1.01  # trained further
    with pytest.raises(ConfideError, match=rf"another model, 'tiny' .*, than './tiny' \({spelt.identity}\)"):
        annotate(spelt, tiny_task(4), out)


def test_where_no_weights_are_known_the_names_decide(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "link").symlink_to(folder)
    engine, out = tiny_engine(), tmp_path / "r.jsonl"
    engine.name = str(folder)
    annotate(engine, tiny_task(4), out)
    write_records(out, [r.model_copy(update={"identity": ""}) for r in read_records(out)])
    for name in (f"{folder}/", str(folder / ".." / "model"), str(tmp_path / "link")):
        engine.name = name
        assert annotate(engine, tiny_task(4), out) == 0
    engine.name = str(tmp_path / "other")
    with pytest.raises(ConfideError, match="another model"):
        annotate(engine, tiny_task(4), out)


def asked_by(words: str, room: int = 9, count: int = 4) -> Task:
    return replace(
        tiny_task(count), prompt=lambda q: [{"role": "user", "content": q.question + words}], max_new_tokens=room
    )


@pytest.mark.parametrize(
    ("task", "how", "told"),
    [
        (tiny_task(4), {"samples": 3}, "samples 2, now 3"),
        (tiny_task(4), {"samples": 0}, "samples 2, now 0"),
        (tiny_task(4), {"temperature": 0.5}, "temperature 1.0, now 0.5"),
        (tiny_task(4), {"seed": 8}, "seed 0, now 8"),
        (tiny_task(4), {"seed": 8, "temperature": 0.5}, "temperature 1.0, now 0.5; seed 0, now 8"),
        (
            tiny_task(4),
            {"splits": {"q0": "test", "q1": "train"}},
            r"split \(--seed, --by, --limit\) 'train', now 'test'",
        ),
        (asked_by("", room=7), {}, "max-new-tokens 9, now 7"),
        (asked_by(" Tell me."), {}, "prompt .*, now .*Tell me"),
        (replace(tiny_task(4), name="other"), {}, "task 'tiny', now 'other'"),
        (tiny_task(1), {"splits": {"q0": "train"}}, "holds the question q1, which is not asked now"),
    ],
)
def test_a_run_with_other_settings_is_refused_by_what_differs(
    tmp_path: Path, task: Task, how: dict[str, Any], told: str
) -> None:
    out, settings = tmp_path / "r.jsonl", {"samples": 2, "splits": {"q0": "train", "q1": "test"}}
    annotate(tiny_engine(), tiny_task(4), out, **settings)
    before = out.read_bytes()
    with pytest.raises(ConfideError, match=told):
        annotate(tiny_engine(), task, out, **settings | how)
    assert out.read_bytes() == before
    assert annotate(tiny_engine(), tiny_task(4), out, **settings, batch_size=3) == 0


def test_a_file_that_does_not_say_how_its_samples_were_drawn_is_continued(tmp_path: Path) -> None:
    out = tmp_path / "r.jsonl"
    annotate(tiny_engine(), tiny_task(4), out, samples=2, seed=5)
    older = [r.model_copy(update={"sampled_with": {}, "request_shape": None}) for r in read_records(out)[:2]]
    write_records(out, older)
    assert annotate(tiny_engine(), tiny_task(4), out, samples=2, seed=6) == 2
    with pytest.raises(ConfideError, match="samples 2, now 4"):
        annotate(tiny_engine(), tiny_task(4), out, samples=4, seed=6)
    with pytest.raises(ConfideError, match=r"\.jsonl"):
        annotate(tiny_engine(), tiny_task(1), tmp_path / "r.parquet")


def test_prompts_that_do_not_fit_are_counted_and_named(tmp_path: Path) -> None:
    with pytest.raises(ConfideError, match=r"4 rows do not fit .* q0"):
        annotate(tiny_engine(context=16), tiny_task(4), tmp_path / "r.jsonl")
    assert not (tmp_path / "r.jsonl").exists()


def test_samples_and_their_agreement_are_kept(tmp_path: Path) -> None:
    out = tmp_path / "r.jsonl"
    assert annotate(tiny_engine(), tiny_task(6), out, samples=3) == 6
    for record in read_records(out):
        assert record.samples is not None
        assert len(record.samples) == 3
        assert record.consistency in (0, 1 / 3, 2 / 3, 1)
        assert len(record.logprobs) == len(record.answer_ids) == len(record.entropies)
        assert (record.end_logprob is None) == (record.finish == "length")


def choice_task(count: int = 9) -> Task:
    questions = [
        Question(
            id=f"c{i}", kind="choice", question=f"Which {'one ' * (i % 3)}is it, {i}?",
            choices=["France", "the river", f"Berlin {i}", "a"], answer=i % 4, domain="d", subject="places",
        )
        for i in range(count)
    ]  # fmt: skip
    return Task("choices", questions)


def test_choices_are_answered_by_the_likeliest_option_unless_letters_are_wanted(tmp_path: Path) -> None:
    engine, task = tiny_engine(context=512), choice_task()
    assert annotate(engine, task, tmp_path / "o.jsonl", batch_size=8) == 9
    records = read_records(tmp_path / "o.jsonl")
    for record in records:
        assert record.choices is not None
        assert record.option_logprobs is not None
        best = record.option_logprobs.index(max(record.option_logprobs))
        assert record.answer == record.answered == record.choices[best]
        assert record.correct == (best == record.reference)
        assert record.answer_ids == engine.encode_answer(record.answer)
        assert sum(record.logprobs) / len(record.logprobs) == pytest.approx(record.option_logprobs[best], abs=1e-4)
        assert record.end_logprob is not None
        assert "choices" not in record.question
        assert record.model_extra == {"subject": "places"}
        # What every estimator does: the same answer, forced after the same messages, has the same probability.
        closed = engine.closed([engine.encode(record.messages)], [record.answer_ids], measure=True)
        assert closed.completions[0].logprobs == pytest.approx(record.logprobs, abs=1e-3)
    annotate(engine, task, tmp_path / "g.jsonl", answer_by="generation", samples=2)
    letters = read_records(tmp_path / "g.jsonl")
    assert all(r.option_logprobs is None and "A) France" in r.question and len(r.samples or []) == 2 for r in letters)
    with pytest.raises(ConfideError, match="answer-by"):
        annotate(engine, task, tmp_path / "g.jsonl")


def test_a_continued_run_of_choices_ends_with_the_same_file(tmp_path: Path) -> None:
    whole, broken = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    annotate(tiny_engine(context=512), choice_task(), whole, batch_size=8)
    lines = whole.read_bytes().splitlines(keepends=True)
    broken.write_bytes(b"".join(lines[:3]) + lines[3][:30])
    assert annotate(tiny_engine(context=512), choice_task(), broken, batch_size=8) == 6
    one, other = ([r.model_copy(update={"cost": {}}) for r in read_records(path)] for path in (broken, whole))
    assert one == other  # all but the time that it took


def test_other_questions_of_a_mixed_file_are_generated(tmp_path: Path) -> None:
    mixed = Task("mixed", [*choice_task(3).questions, *tiny_task(3).questions], max_new_tokens=5)
    annotate(tiny_engine(context=512), mixed, tmp_path / "r.jsonl", answer_by="options")
    records = read_records(tmp_path / "r.jsonl")
    assert {r.kind: r.option_logprobs is not None for r in records} == {"choice": True, "short": False}
    assert len(records) == 6


def test_what_cannot_be_answered_so_is_refused(tmp_path: Path) -> None:
    engine = tiny_engine(context=512)
    with pytest.raises(ConfideError, match="which is not sampled"):
        annotate(engine, choice_task(), tmp_path / "r.jsonl", samples=3)
    with pytest.raises(ConfideError, match="tiny has no choice questions"):
        annotate(engine, tiny_task(3), tmp_path / "r.jsonl", answer_by="options")
    with pytest.raises(ConfideError, match="9 rows do not fit"):
        annotate(tiny_engine(context=64), choice_task(), tmp_path / "r.jsonl")
    assert not (tmp_path / "r.jsonl").exists()


def test_rejected_questions_are_wrong_whatever_is_answered(tmp_path: Path) -> None:
    task = without_right_options(choice_task(), 0.5, seed=2)
    annotate(tiny_engine(context=512), task, tmp_path / "r.jsonl")
    records = {record.id: record for record in read_records(tmp_path / "r.jsonl")}
    lost = [r for r in records.values() if not (r.model_extra or {})["has_answer"]]
    assert len(lost) == 4
    for record in lost:
        removed = (record.model_extra or {})["removed"]
        assert record.correct is False
        assert record.reference is None
        assert removed not in (record.choices or [])
        assert len(record.choices or []) == len(record.option_logprobs or []) == 3
    with pytest.raises(ConfideError, match="task 'choices-reject', now 'choices'"):
        annotate(tiny_engine(context=512), choice_task(), tmp_path / "r.jsonl")


@pytest.mark.parametrize("name", ["geography", "arithmetic"])
@pytest.mark.parametrize("limit", [30, 1000])
def test_every_question_gets_a_split(name: str, limit: int) -> None:
    for seed in range(3):
        questions = load_task(name, limit=limit, seed=seed).questions
        splits = split_questions(questions, seed=seed)
        assert set(splits) == {q.id for q in questions}
        shares = Counter(splits.values())
        assert all(abs(shares[split] - share * limit) < 12 for split, share in SHARES.items())


@pytest.mark.parametrize("by", ["standard", "relation"])
def test_questions_are_split_by_entity(by: str) -> None:
    questions = load_task("geography", limit=1500).questions
    splits = split_questions(questions, by, seed=1)
    sides: dict[str, set[str]] = {}
    for question in questions:
        if question.id in splits:
            sides.setdefault(str(question.entity), set()).add(splits[question.id])
    assert all(len(side) == 1 for side in sides.values())
    assert set(splits.values()) == {"train", "validation", "calibration", "test"}
    if by == "relation":
        tested = {q.domain for q in questions if splits.get(q.id) == "test"}
        assert len(tested) == 1
        assert not any(q.domain in tested for q in questions if splits.get(q.id) not in ("test", None))
        # What no split takes shares its entity with a row on the other side.
        for q in (q for q in questions if q.id not in splits):
            assert sides[str(q.entity)] != {"test"} if q.domain in tested else sides[str(q.entity)] == {"test"}
    with pytest.raises(ConfideError, match="annotate first"):
        split_questions(questions, "answered-country")


def test_records_say_which_weights_answered_and_how_they_were_asked(tmp_path: Path) -> None:
    engine = tiny_engine()
    annotate(engine, tiny_task(4), tmp_path / "r.jsonl")
    records = read_records(tmp_path / "r.jsonl")
    assert {record.identity for record in records} == {engine.identity}
    assert records[0].request_shape is not None
    assert (records[0].request_shape.options, records[0].request_shape.max_tokens) == ({"temperature": "0"}, 9)
