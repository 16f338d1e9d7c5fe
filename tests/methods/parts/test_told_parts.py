"""The confidence of parts: trained on records of parts, told of every answer from its one generation."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest

import confide
from confide.engines.engine import Completion
from confide.engines.token_starts import starts_of_ids
from confide.errors import ConfideError
from confide.methods.frozen.frozen_model import FrozenModel
from confide.methods.parts.part_reading import PartReading, load_part_readings, part_logits
from confide.methods.parts.part_states import collect_part_states
from confide.methods.parts.part_training import part_layers, train_parts
from confide.methods.parts.told_parts import told_parts
from confide.methods.scoring import score
from confide.methods.stack.states import collect_states
from confide.parts.part_records import PARTS, part_records
from confide.policies.identities import common_identity, identity_of, same_model
from confide.records import Message, Record
from confide.serving.config import ServeConfig
from confide.serving.http.application import create_app
from confide.tasks.field_grader import part_grader
from graded_rows import counted_reads
from scored_model import engine, records, trained
from upstreams import policy_file

SPLITS = ("train", "train", "train", "validation", "test")


def answered(count: int) -> list[Record]:
    """Answers in JSON about two things; a colour that starts with r is right."""
    runs, made = engine(), []
    for i in range(count):
        draw = np.random.default_rng(i)
        values = {"city": str(draw.choice(["France", "Japan"])), "colour": str(draw.choice(["red", "green"]))}
        answer = json.dumps(values)
        ids = runs.encode_answer(answer)
        made.append(
            Record(
                id=f"r{i}", model="tiny", kind="fields", answer=answer, answer_ids=ids, split=SPLITS[i % 5],  # type: ignore[arg-type]
                messages=[Message(role="user", content=f"Which? {i % 7}")],
                token_starts=starts_of_ids(ids, runs.decode),
                logprobs=(-0.1 * (1 + draw.random(len(ids)))).tolist(), entropies=[0.1] * len(ids), end_logprob=-0.1,
                reference={"city": "France", "colour": "red"},
            )
        )  # fmt: skip
    return made


def in_parts(some: list[Record]) -> list[Record]:
    return [part for r in some for part in part_records(r, PARTS["fields"](r.answer), part_grader(r.reference))]


@pytest.fixture(scope="module")
def rows() -> list[Record]:
    return in_parts(answered(120))


@pytest.fixture(scope="module")
def folder(one_thread: None, tmp_path_factory: pytest.TempPathFactory, rows: list[Record]) -> Path:
    out = trained(tmp_path_factory.mktemp("parts") / "stack", records(240))
    before = (out / "confide.json").read_text()
    split = [[r for r in rows if r.split == name] for name in ("train", "validation")]
    summary = train_parts("field", *split, out, engine=engine())
    assert "field learned from 144 parts" in summary
    assert (out / "confide.json").read_text() == before
    return out


@pytest.fixture(scope="module")
def model(folder: Path) -> FrozenModel:
    loaded = confide.load(folder, dtype="float32")
    assert isinstance(loaded, FrozenModel)
    return loaded


def test_states_of_parts_are_those_of_answers_that_follow_what_was_written(rows: list[Record]) -> None:
    some, layers = rows[:10], part_layers(engine().depth)
    together = collect_part_states(engine(), some, layers)
    alone = collect_states(engine(), some, layers)
    np.testing.assert_allclose(
        together.values.astype(float), alone.values[:, :, :3].astype(float), atol=2e-2, rtol=1e-2
    )


def test_a_part_of_another_answer_is_refused(rows: list[Record]) -> None:
    other = rows[0].model_copy(update={"answer_ids": [5, 6]})
    with pytest.raises(ConfideError, match="is no part of the answer"):
        collect_part_states(engine(), [other, rows[1]], [1])
    with pytest.raises(ConfideError, match="has no tokens"):
        collect_part_states(engine(), [rows[0].model_copy(update={"answer_ids": []})], [1])


def test_what_an_answer_comes_with_is_what_scoring_gives(model: FrozenModel) -> None:
    whole = answered(5)[4]
    parts = in_parts([whole])
    scored = score(parts, ["field"], model=model)
    reading = model.part_readings["field"]
    made_by = common_identity(scored, "field")
    assert made_by == f"field={reading.scored_by}"
    assert same_model(made_by, model.identity) is True
    directions, columns = model._directions(), model._columns("field")
    prompt = model.engine.encode(whole.messages)
    (read,) = model.engine.closed([prompt], [whole.answer_ids], directions=directions).completions
    assert read.shares is not None
    completion = Completion(
        whole.answer, whole.answer_ids, whole.logprobs, whole.entropies, -0.1, "stop", starts=whole.token_starts
    )
    told = told_parts("field", whole.messages, completion, reading, read.shares[:, columns])
    assert [part.name for part in told] == ["/city", "/colour"]
    assert [part.source for part in told] == ["field", "field"]
    for part, record in zip(told, scored, strict=True):
        assert part.confidence == pytest.approx(record.confidence["field"], abs=2e-3)
    cut = told_parts("field", whole.messages, completion, reading, read.shares[:12, columns])
    assert [part.source for part in cut][1] == "portable"  # the states were not read to its end
    alone = told_parts("field", whole.messages, completion)
    assert alone[0].confidence == pytest.approx(np.exp(sum(parts[0].logprobs)))
    bare = told_parts("field", whole.messages, replace(completion, starts=[]), reading)
    assert [part.confidence for part in bare] == [None, None]


def test_one_generation_tells_all(model: FrozenModel, monkeypatch: pytest.MonkeyPatch) -> None:
    found = counted_reads(monkeypatch)
    plain, asked = model.answer("Which? 1"), model.answer("Which? 1", fields=True, claims=True)
    assert (asked.text, asked.ids) == (plain.text, plain.ids)
    assert plain.fields == plain.claims == []
    assert [claim.text for claim in asked.claims] == [part.text for part in PARTS["sentences"](asked.text)]
    assert all(0 <= (claim.confidence or 0) <= 1 and claim.source == "logprob_sum" for claim in asked.claims)
    assert len(found) == 2  # one pass an answer


def test_a_signal_belongs_to_its_weights(folder: Path, model: FrozenModel) -> None:
    assert "field=" in model.identity
    reading = PartReading.load(folder / "signals" / "field")
    assert reading.scored_by == model.part_readings["field"].scored_by
    with pytest.raises(ConfideError, match="was fitted on other weights"):
        load_part_readings(folder, "0" * 64)
    z = part_logits(reading.served, [], None) if reading.served else None
    assert z is not None
    assert not len(z)


def test_text_alone_can_be_learned_into_any_folder(rows: list[Record], tmp_path: Path) -> None:
    train_parts("field", [r for r in rows if r.split == "train"], [], tmp_path / "any")
    reading = PartReading.load(tmp_path / "any" / "signals" / "field")
    values = reading.confidences([r for r in rows if r.split == "test"])
    right = [r.correct for r in rows if r.split == "test"]
    assert min(v or 0 for (v, _), ok in zip(values, right, strict=True) if ok) > max(
        v or 0 for (v, _), ok in zip(values, right, strict=True) if not ok
    )
    (tmp_path / "any" / "signals" / "field" / "parts.json").write_text("{")
    with pytest.raises(ConfideError, match="holds no readable confidence of parts"):
        PartReading.load(tmp_path / "any" / "signals" / "field")


def test_bad_input_is_told(rows: list[Record], tmp_path: Path) -> None:
    train = [r for r in rows if r.split == "train"]
    with pytest.raises(ConfideError, match="no signal 'year' is about parts"):
        train_parts("year", train, [], tmp_path)
    with pytest.raises(ConfideError, match="is a whole answer"):
        train_parts("field", answered(3), [], tmp_path)
    with pytest.raises(ConfideError, match="is no checkpoint that could carry it"):
        train_parts("field", train, [r for r in rows if r.split == "validation"], tmp_path / "new", engine=engine())
    with pytest.raises(ConfideError, match="none of the 1 graded train rows has log-probabilities"):
        train_parts("field", [train[0].model_copy(update={"logprobs": []})], [], tmp_path)


def test_what_is_exported_for_an_engine_gives_the_same(model: FrozenModel, rows: list[Record]) -> None:
    reading = model.part_readings["field"]
    exported = PartReading.from_json(json.loads(json.dumps(reading.to_json())))
    test = [row for row in rows if row.split == "test"]
    z = np.random.default_rng(0).normal(size=len(test))
    assert exported.confidences(test, z) == reading.confidences(test, z)
    assert exported.positions == reading.positions


def policy_of(folder: Path, model: FrozenModel, source: str, scored_by: str) -> str:
    """A policy that was made for fields that this model told, as `score` says who gave them."""
    row = Record(id="r#/city", part="/city", identity=model.engine.identity, scored_by={source: scored_by})
    return str(policy_file(folder, source=source, identity=identity_of(row, source)))


def test_a_router_takes_the_policy_of_its_own_model(tmp_path: Path, model: FrozenModel) -> None:
    own = model.part_readings["field"].scored_by

    def start(source: str, scored_by: str) -> None:
        fields = {"policy": policy_of(tmp_path, model, source, scored_by)}
        small, store = {"model": "x"}, f"sqlite:///{tmp_path}/confide.db"
        create_app(
            ServeConfig.model_validate({"mode": "observe", "small": small, "store": store, "fields": fields}),
            model=model,
        )

    start("field", own)
    with pytest.raises(ConfideError, match="fields: the policy on field was made for another model"):
        start("field", "0123456789abcdef")
    with pytest.raises(ConfideError, match="on portable, and the fields of the small model small come with field"):
        start("portable", "")


def test_a_folder_of_another_signal_is_refused(tmp_path: Path, folder: Path) -> None:
    copytree(folder / "signals" / "field", tmp_path / "signals" / "claim")
    with pytest.raises(ConfideError, match="claim holds the signal field"):
        load_part_readings(tmp_path, None)
