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
from confide.methods.frozen.frozen_options import FrozenOptions
from confide.methods.frozen.frozen_training import train_confidence
from confide.methods.reader.reader_config import ReaderConfig
from scored_model import records

pytestmark = pytest.mark.usefixtures("one_thread")
ANSWERS = ("Japan", "I do not know", "")


READER = ReaderConfig(epochs=1, learning_rate=0.02)


def trained(place: Path, name: str = "Llama", reader: ReaderConfig | None = READER, **how: Any) -> Path:
    model, tokenizer = architecture(name)
    model.save_pretrained(place / "base")
    tokenizer.save_pretrained(place / "base")
    engine = TransformersEngine.load(str(place / "base"), dtype="float32")
    rows = [row.model_copy(update={"model": engine.name}) for row in records(60)]
    parts = [[row for row in rows if row.split == split] for split in ("train", "validation")]
    train_confidence(engine, *parts, FrozenOptions(**how), place / "trained", reader=reader)
    return place / "trained"


def test_the_weights_keep_their_type(tmp_path: Path) -> None:
    folder = trained(tmp_path)
    export_checkpoint(folder, tmp_path / "exported")
    configs = [json.loads((place / "config.json").read_text()) for place in (folder, tmp_path / "exported")]
    assert configs[0]["dtype"] == configs[1]["dtype"] == "float32"


@pytest.mark.parametrize("how", [{"reader": None}, {"shuffle_labels": True}], ids=["no reader", "a control"])
def test_what_has_no_reader_to_serve_has_no_file(tmp_path: Path, how: dict[str, Any]) -> None:
    export_checkpoint(trained(tmp_path, **how), tmp_path / "exported")
    assert (tmp_path / "exported" / "confide.json").exists()
    assert not (tmp_path / "exported" / "confide").exists()
    assert not (tmp_path / "exported" / "adapter").exists()


@pytest.mark.parametrize("name", ["Llama", "Granite", "Qwen2"])
def test_the_exported_adapter_says_on_the_exported_weights_what_the_trained_one_says(tmp_path: Path, name: str) -> None:
    folder = trained(tmp_path, name)
    export_checkpoint(folder, tmp_path / "exported")
    reader, model = ExportedReader.load(tmp_path / "exported"), confide.load(folder, dtype="float32")
    assert isinstance(model, FrozenModel)
    assert model.parts.reader is not None
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
    found = []
    for one in reader.examples:
        with torch.no_grad():
            logits = served(torch.tensor([reader.asked(one.ids, [])])).logits[0, -1]
        found.append(float(logits[yes] - logits[no]))
    assert found == pytest.approx([one.z for one in reader.examples], abs=1e-4)
    assert difference(reader, found) is None
    assert reader.identity == model.identity
    assert reader.scored_by == f"{model.scored_by}-second"
