"""What ``confide export`` says of a reader: a server of the exported weights gives the same z by the second request."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

import confide
from architectures import architecture
from confide.engines.openai.exported_reader import ExportedReader, difference
from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.methods.checkpoint_export import export_checkpoint
from confide.methods.frozen.frozen_model import FrozenModel
from confide.methods.frozen.frozen_training import train_confidence
from confide.methods.reader.reader_config import ReaderOptions
from scored_model import records

pytestmark = pytest.mark.usefixtures("one_thread")
ANSWERS = ("Japan", "I do not know", "")


def trained(place: Path, name: str = "Llama", ask_tokens: str | None = "2", **how: Any) -> Path:
    model, tokenizer = architecture(name)
    model.save_pretrained(place / "base")
    tokenizer.save_pretrained(place / "base")
    engine = TransformersEngine.load(str(place / "base"), dtype="float32")
    rows = [row.model_copy(update={"model": engine.name}) for row in records(60)]
    parts = [[row for row in rows if row.split == split] for split in ("train", "validation")]
    options = ReaderOptions(ask_tokens=ask_tokens, epochs=1, learning_rate=0.02, prefix_cache="1GB", seed=0, **how)
    train_confidence(engine, *parts, options, place / "trained")
    return place / "trained"


def plain_z(folder: Path, ids: list[int], reader: ExportedReader) -> float:
    """What Transformers alone makes of the exported folder."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        logprobs = model(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
    return float(logprobs[reader.confident_id] - logprobs[reader.unconfident_id])


@pytest.mark.parametrize(("name", "ask_tokens"), [("Llama", "2"), ("Llama", "0"), ("Granite", "1"), ("Qwen2", "3")])
def test_the_exported_weights_say_what_the_trained_ones_say(tmp_path: Path, name: str, ask_tokens: str) -> None:
    folder = trained(tmp_path, name, ask_tokens)
    export_checkpoint(folder, tmp_path / "exported")
    reader = ExportedReader.load(tmp_path / "exported")
    model = confide.load(folder, dtype="float32")
    assert isinstance(model, FrozenModel)
    assert model.parts.reader is not None
    assert len(reader.ask_ids) == int(ask_tokens)
    prompt = model.engine.encode([{"role": "user", "content": "Where is Kyoto?"}])
    for answer in map(model.engine.encode_answer, ANSWERS):
        ours = float(model.parts.reader.logits(model.engine.closed([prompt], [answer]))[0])
        assert plain_z(tmp_path / "exported", reader.asked(prompt, answer), reader) == pytest.approx(ours, abs=1e-4)
    found = [plain_z(tmp_path / "exported", reader.asked(one.ids, []), reader) for one in reader.examples]
    assert found == pytest.approx([one.z for one in reader.examples], abs=1e-4)
    assert difference(reader, found) is None
    assert reader.identity == model.identity
    assert reader.scored_by == f"{model.scored_by}-second"


def test_the_weights_keep_their_type(tmp_path: Path) -> None:
    folder = trained(tmp_path)
    export_checkpoint(folder, tmp_path / "exported")
    configs = [json.loads((place / "config.json").read_text()) for place in (folder, tmp_path / "exported")]
    assert configs[0]["dtype"] == configs[1]["dtype"] == "float32"


@pytest.mark.parametrize(
    "how",
    [{"ask_tokens": ""}, {"shuffle_labels": True}, {"shuffle_labels": True, "ask_tokens": None}],
    ids=["no reader", "a control", "an adapter as a control"],
)
def test_what_has_no_reader_to_serve_has_no_file(tmp_path: Path, how: dict[str, Any]) -> None:
    export_checkpoint(trained(tmp_path, **how), tmp_path / "exported")
    assert (tmp_path / "exported" / "confide.json").exists()
    assert not (tmp_path / "exported" / "confide").exists()
    assert not (tmp_path / "exported" / "adapter").exists()


@pytest.mark.parametrize("name", ["Llama", "Granite"])
def test_an_exported_adapter_says_on_the_exported_weights_what_the_trained_one_says(tmp_path: Path, name: str) -> None:
    folder = trained(tmp_path, name, ask_tokens=None)
    export_checkpoint(folder, tmp_path / "exported")
    reader, model = ExportedReader.load(tmp_path / "exported"), confide.load(folder, dtype="float32")
    assert isinstance(model, FrozenModel)
    assert model.parts.reader is not None
    assert reader.ask_ids == ()
    assert reader.verdict_ids == model.parts.reader.verdict
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "exported", dtype=torch.float32)
    served = PeftModel.from_pretrained(base, tmp_path / "exported" / "adapter").eval()
    prompt = model.engine.encode([{"role": "user", "content": "Where is Kyoto?"}])
    for answer in map(model.engine.encode_answer, ANSWERS):
        ours = float(model.parts.reader.logits(model.engine.closed([prompt], [answer]))[0])
        with torch.no_grad():
            logits = served(torch.tensor([reader.asked(prompt, answer)])).logits[0, -1]
        yes, no = reader.verdict_ids
        assert float(logits[yes] - logits[no]) == pytest.approx(ours, abs=1e-4)
