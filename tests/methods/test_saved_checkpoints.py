"""Checkpoints and records that version 0.1 wrote still load and say the same.

The folders in ``saved/`` were trained on the tiny model; the records beside them hold the confidences of that version.
Stacks and readers of before are refused: those in ``saved/reader`` were trained again, on the same rows. What the stack
and ``portable`` say of the records is what they say in these records' traffic.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import confide
from confide.errors import ConfideError
from confide.methods.frozen.frozen_model import FrozenModel
from confide.methods.scoring import score
from confide.policies.identities import identity_of, identity_parts, identity_text
from confide.records import read_records
from confide.report_tokens import token_ids

SAVED = Path(__file__).parent / "saved"
SOURCES = {
    "reader": [
        "stack",
        "portable",
        "probe",
        "probe_logprobs",
        "probe@prompt_end",
        "probe@answer_last",
        "probe@closing",
        "reader",
        "self_consistency",
        "semantic_entropy",
        "option_probability",
        "logprob_sum",
        "logprob_mean",
        "logprob_min",
        "entropy",
        "answer_length",
    ],
    "self_ref": ["self_ref"],
    "stated": ["graded", "f_pred"],
}


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", SOURCES)
def test_a_saved_checkpoint_says_what_it_said(name: str) -> None:
    before = read_records(SAVED / f"{name}.jsonl")
    model = confide.load(SAVED / name, dtype="float32")
    model.names += ["", "tiny"]
    bare = [record.model_copy(update={"confidence": {}, "familiarity": None}) for record in before]
    for old, new in zip(before, score(bare, SOURCES[name], model=model), strict=True):
        for source in SOURCES[name]:
            assert new.confidence[source] == pytest.approx(old.confidence[source], abs=1e-4), source
        assert (new.familiarity is None) == (old.familiarity is None)
        if old.familiarity is not None:
            assert new.familiarity == pytest.approx(old.familiarity, abs=1e-4)


def test_what_a_checkpoint_says_of_itself_is_read_whole() -> None:
    reader, stated = (confide.load(SAVED / name) for name in ("reader", "stated"))
    assert list(reader.info.confidence.verdict_ids.values()) == token_ids(reader.engine.tokenizer).all
    assert reader.info.prompts[0][0]["content"] == "Answer with the name only."
    assert reader.engine.name == "tiny"
    assert stated.info.confidence.statement == "graded"
    assert stated.info.confidence.grade_ids == stated.engine.grades


def test_a_checkpoint_of_another_schema_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "confide.json").write_text('{"schema": 2}')
    with pytest.raises(ConfideError, match="has schema 2; this version reads schema 1"):
        confide.load(tmp_path)


def test_scores_say_which_checkpoint_gave_them() -> None:
    before = read_records(SAVED / "reader.jsonl")[:6]
    model = confide.load(SAVED / "reader", dtype="float32")
    model.names += ["", "tiny"]
    bare = [
        record.model_copy(update={"confidence": {}, "familiarity": None, "identity": model.engine.identity})
        for record in before
    ]
    scored = score(bare, ["stack", "portable", "reader", "logprob_sum"], model=model)
    parts = identity_parts(model.identity)
    assert set(parts) == {"weights", "confidence", "portable"}
    for source, part in (("stack", "confidence"), ("reader", "confidence"), ("portable", "portable")):
        own = identity_text({name: parts[name] for name in ("weights", part)})
        assert {identity_of(record, source) for record in scored} == {own}
    assert {identity_of(record, "logprob_sum") for record in scored} == {model.engine.identity}
    assert confide.load(SAVED / "reader", dtype="float32").identity == model.identity
    again = confide.load(SAVED / "reader", dtype="float32")
    assert isinstance(again, FrozenModel)
    assert again.parts.stack is not None
    again.parts.stack.probe.model.weight[-1] += 1e-3  # another training, the same base
    assert (again.engine.identity, again.identity == model.identity) == (model.engine.identity, False)
    assert "confidence=" in confide.load(SAVED / "self_ref").identity


def test_what_tells_confidences_apart_is_what_earlier_versions_wrote() -> None:
    known = {"self_ref": "8e6cac54c4acb54b", "stated": "83c5bd19e91bc40a", "reader": "33f94a61c1136797"}
    assert {name: confide.load(SAVED / name, dtype="float32").scored_by for name in known} == known


@pytest.mark.parametrize("without", ["portable.json", "mixture"])
def test_a_stack_of_before_is_refused(tmp_path: Path, without: str) -> None:
    folder = tmp_path / "reader"
    shutil.copytree(SAVED / "reader", folder)
    if without == "portable.json":
        (folder / without).unlink()
    about = json.loads((folder / "confide.json").read_text())
    before = {"half": 1.0, "openness": 0.0, "answers": {"france": 30}, "options": True, "written": False}
    about["stack"] = {name: value for name, value in about["stack"].items() if name != "mixture"} | before
    (folder / "confide.json").write_text(json.dumps(about))
    with pytest.raises(
        ConfideError, match="its stack comes from an earlier version of confide: train it again"
    ) as told:
        confide.load(folder)
    assert "\n" not in str(told.value)


def test_a_reader_of_ask_tokens_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "reader"
    shutil.copytree(SAVED / "reader", folder)
    about = json.loads((folder / "confide.json").read_text())
    about["signals"]["confidence"] |= {"reads": True, "ask_tokens": 1, "ask_ids": [350]}
    (folder / "confide.json").write_text(json.dumps(about))
    with pytest.raises(ConfideError, match=r"a reader of ask tokens, .*: train it again with `confide train reader`"):
        confide.load(folder)
    about["signals"]["confidence"] |= {"reads": False, "ask_tokens": 0, "ask_ids": []}  # as stacks of before say
    (folder / "confide.json").write_text(json.dumps(about))
    assert confide.load(folder, dtype="float32").answer("Where?").source == "stack"
