"""The reader: it learns, the answers stay, and the checkpoint says with it what training said."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import peft.config
import pytest
from safetensors.torch import load_file, save_file

import confide
from architectures import architecture
from confide.engines.transformers.adapter import CONFIG, WEIGHTS
from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.errors import ConfideError
from confide.methods.checkpoint_export import export_checkpoint
from confide.methods.finetuning import supervised
from confide.methods.frozen import frozen_training
from confide.methods.frozen.frozen_model import FrozenModel
from confide.methods.frozen.frozen_options import FrozenOptions
from confide.methods.frozen.frozen_training import train_confidence
from confide.methods.method import labels
from confide.methods.reader.reader import FOLDER, verdict_words
from confide.methods.reader.reader_config import ReaderConfig
from confide.methods.reader.reader_training import reader_rows, train_reader
from confide.methods.scoring import score
from confide.metrics import auroc
from confide.numeric import sigmoid
from confide.records import Record
from scored_model import engine, records

pytestmark = pytest.mark.usefixtures("one_thread")
QUICK = ReaderConfig(epochs=8, patience=8, batch_size=4, learning_rate=2e-2, warmup_steps=0)
SHORT = ReaderConfig(epochs=1)


def part(split: str, count: int = 60) -> list[Record]:
    return [row for row in records(count) if row.split == split]


def train(out: Path, reader: ReaderConfig | None = SHORT) -> str:
    return train_confidence(engine(), part("train"), part("validation"), FrozenOptions(), out, reader=reader)


def test_a_row_ends_in_one_of_two_words_that_alone_is_learned() -> None:
    tiny = engine()
    yes, no = verdict_words(tiny)
    right, wrong = reader_rows(tiny, records(2))  # France, then Chile
    for row, word in ((right, yes), (wrong, no)):
        assert row.input_ids[-2:] == [tiny.turn_end, word]
        assert row.labels == [-100] * (len(row.input_ids) - 1) + [word]


def test_its_seed_is_that_of_the_whole_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[ReaderConfig] = []

    def caught(*given: object, **_: object) -> None:
        seen.append(given[3])  # type: ignore[arg-type]
        raise ConfideError("enough")

    monkeypatch.setattr(frozen_training, "train_reader", caught)
    with pytest.raises(ConfideError, match="enough"):
        train_confidence(engine(), part("train"), part("validation"), FrozenOptions(seed=7), tmp_path, reader=SHORT)
    assert seen == [replace(SHORT, seed=7)]


def test_it_learns_and_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    tiny = engine()
    prompt = tiny.encode([{"role": "user", "content": "Which country is the city in? red 1"}])
    before, identity, names = tiny.answer([prompt], 8)[0], tiny.identity, list(tiny.model.state_dict())
    reader = train_reader(tiny, part("train"), part("validation"), QUICK, tmp_path)
    assert reader.losses[-1] < reader.losses[0]
    tested = part("test")
    closed = tiny.closed([tiny.encode(r.messages) for r in tested], [tiny.encode_answer(r.answer) for r in tested])
    assert auroc(reader.logits(closed), labels(tested)) > 0.95
    assert (tiny.identity, list(tiny.model.state_dict())) == (identity, names)
    after = tiny.answer([prompt], 8)[0]
    assert (after.ids, after.logprobs) == (before.ids, before.logprobs)
    assert not any(parameter.requires_grad for parameter in tiny.model.parameters())
    assert not tiny.model.training


@pytest.mark.parametrize("name", ["Llama", "Mistral", "Mixtral", "Gemma2"])
def test_what_it_reads_is_what_training_saw(tmp_path: Path, name: str) -> None:
    """z of the reader equals the trainer's own logits of the same rows, also behind windows and among experts."""
    tiny, seen = TransformersEngine(*architecture(name), "tiny"), []
    verdict_logits = supervised.verdict_logits

    def kept(*given: object, **how: object) -> object:
        seen.append(verdict_logits(*given, **how))
        return seen[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(supervised, "verdict_logits", kept)
        reader = train_reader(tiny, part("train"), part("validation"), QUICK, tmp_path)
    best = seen[int(np.argmin(reader.losses))]
    held = part("validation")
    closed = tiny.closed([tiny.encode(r.messages) for r in held], [tiny.encode_answer(r.answer) for r in held])
    assert reader.logits(closed) == pytest.approx(best, abs=1e-3)


def test_a_checkpoint_reads_with_it_in_score_and_in_answers(tmp_path: Path) -> None:
    told = train(tmp_path / "out", ReaderConfig(epochs=2))
    assert "reader: a LoRA adapter, validation log loss" in told
    assert not (tmp_path / "out" / "checkpoints").exists()
    model = confide.load(tmp_path / "out", dtype="float32")
    assert isinstance(model, FrozenModel)
    assert model.parts.reader is not None
    tested = part("test")
    scored = score(tested, ["reader", "stack"], model=model)
    prompts = [model.engine.encode(r.messages) for r in tested]
    closed = model.engine.closed(prompts, [model.engine.encode_answer(r.answer) for r in tested])
    expected = sigmoid(model.parts.reader.logits(closed))
    assert [r.confidence["reader"] for r in scored] == pytest.approx(expected.tolist(), abs=1e-6)
    read = [len(p) + len(model.engine.encode_answer(r.answer)) + 1 for p, r in zip(prompts, tested, strict=True)]
    assert {r.cost["reader"].tokens for r in scored} == {np.mean(read)}, "the prompt is read again"
    assert {r.cost["stack"].tokens for r in scored} == {1}
    answer = model.answer(tested[0].messages, max_new_tokens=8)
    read = model.confidence(tested[0].messages, answer.text)
    assert 0 < answer.sources["reader"] < 1
    assert read.sources["reader"] == pytest.approx(answer.sources["reader"], abs=1e-5)


def test_an_adapter_of_an_earlier_training_in_the_folder_reads_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    train(out)
    assert "reader" in confide.load(out, dtype="float32").answer("red").sources
    train(out, None)
    assert (out / FOLDER / WEIGHTS).exists()
    assert "reader" not in confide.load(out, dtype="float32").answer("red").sources
    export_checkpoint(out, tmp_path / "exported")
    assert not (tmp_path / "exported" / FOLDER).exists()


def test_another_adapter_is_another_identity_and_a_broken_one_is_refused(tmp_path: Path) -> None:
    train(tmp_path / "out")
    before, file = confide.load(tmp_path / "out").identity, tmp_path / "out" / FOLDER / WEIGHTS
    assert confide.load(tmp_path / "out").identity == before
    weights = load_file(file)
    weights[min(weights)][0, 0] += 0.01
    save_file(weights, file)
    moved = confide.load(tmp_path / "out").identity
    assert moved != before
    about = file.with_name(CONFIG)
    about.write_text(json.dumps(json.loads(about.read_text()) | {"lora_alpha": 64}))
    assert confide.load(tmp_path / "out").identity not in (before, moved), "how far it is turned up counts, too"
    file.write_bytes(b"")
    with pytest.raises(ConfideError, match="is not a readable LoRA adapter"):
        confide.load(tmp_path / "out")


def test_an_adapter_that_is_gone_is_refused_and_looked_for_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(tmp_path / "out")
    asked: list[object] = []
    monkeypatch.setattr(peft.config, "hf_hub_download", lambda *given, **_: asked.append(given))
    monkeypatch.chdir(tmp_path)
    (Path("out") / FOLDER / CONFIG).unlink()
    with pytest.raises(ConfideError, match=r"it has no adapter_config\.json"):
        confide.load("out")
    shutil.rmtree(Path("out") / FOLDER)
    with pytest.raises(ConfideError, match=r"it has no adapter_config\.json"):
        confide.load("out")
    assert not asked


def test_training_a_stack_in_its_place_leaves_no_reader(tmp_path: Path) -> None:
    for reader in (SHORT, None):
        train(tmp_path, reader)
    model = confide.load(tmp_path)
    assert isinstance(model, FrozenModel)
    assert model.parts.reader is None
