"""An adapter that is applied inside a context: what PEFT would say there, and the base model, bit for bit, outside."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from confide.engines.transformers.adapter import WEIGHTS, Adapter
from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.errors import ConfideError
from tiny_model import tiny_model

pytestmark = pytest.mark.usefixtures("one_thread")
IDS = torch.tensor([[5, 6, 7, 8, 9]])


def drawn(rank: int = 4) -> tuple[Adapter, torch.Tensor]:
    """An adapter with weights that change something, and the logits that PEFT gives with it."""
    model, _ = tiny_model()
    adapted = get_peft_model(model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear"))
    torch.manual_seed(0)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    with torch.no_grad():
        return Adapter.of(adapted), adapted(IDS).logits


def logits(engine: TransformersEngine) -> torch.Tensor:
    with torch.no_grad():
        return engine.model(IDS).logits


def test_inside_it_is_what_peft_says_and_outside_the_base_model(tmp_path: Path) -> None:
    adapter, expected = drawn()
    engine = TransformersEngine(*tiny_model(), "tiny")
    before, identity = logits(engine), engine.identity
    with adapter.active(engine):
        torch.testing.assert_close(logits(engine), expected, atol=1e-5, rtol=1e-5)
        assert engine.identity == identity
    assert torch.equal(logits(engine), before)
    assert not torch.allclose(before, expected, atol=1e-2), "the adapter changes something"


def test_a_saved_adapter_is_peft_s_and_comes_back_as_it_was(tmp_path: Path) -> None:
    adapter, expected = drawn()
    adapter.save(tmp_path)
    served = PeftModel.from_pretrained(tiny_model()[0], tmp_path).eval()
    with torch.no_grad():
        torch.testing.assert_close(served(IDS).logits, expected, atol=1e-5, rtol=1e-5)
    engine = TransformersEngine(*tiny_model(), "tiny")
    with Adapter.load(tmp_path).active(engine):
        torch.testing.assert_close(logits(engine), expected, atol=1e-5, rtol=1e-5)


def test_what_was_read_of_prompts_without_it_is_not_used_with_it() -> None:
    adapter, _ = drawn()
    engine = TransformersEngine(*tiny_model(), "tiny")
    prompts = [[5, 6, 7, 8, 9, 10 + i] for i in range(3)]
    with adapter.active(engine):
        expected = engine.next_tokens(prompts, (3, 4)).logprobs
    engine.forward.share_prefixes(prompts)
    plain = engine.next_tokens(prompts, (3, 4)).logprobs
    with adapter.active(engine):
        torch.testing.assert_close(engine.next_tokens(prompts, (3, 4)).logprobs, expected, atol=1e-5, rtol=1e-5)
    assert (engine.next_tokens(prompts, (3, 4)).logprobs == plain).all()


def test_other_threads_wait_for_the_base_model() -> None:
    adapter, _ = drawn()
    engine = TransformersEngine(*tiny_model(), "tiny")
    expected, found = engine.next_tokens([[5, 6, 7]], (3, 4)).logprobs, []
    other = threading.Thread(target=lambda: found.append(engine.next_tokens([[5, 6, 7]], (3, 4)).logprobs))
    with adapter.active(engine):
        other.start()
        other.join(0.2)
        assert not found
    other.join()
    assert (found[0] == expected).all()


def test_an_adapter_of_another_model_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    adapter, _ = drawn()
    wrong = dict(adapter.weights)
    last = max(name for name in wrong if name.endswith("lora_A.weight"))
    wrong[last] = wrong[last][:, :-1]
    engine = TransformersEngine(*tiny_model(), "tiny")
    before = logits(engine)
    with (
        pytest.raises(ConfideError, match=r"does not fit tiny: .*lora_A"),
        Adapter(adapter.config, wrong).active(engine),
    ):
        pass
    assert torch.equal(logits(engine), before)
    adapter.save(tmp_path)
    (tmp_path / WEIGHTS).write_bytes(b"no tensors")
    with pytest.raises(ConfideError, match="is not a readable LoRA adapter"):
        Adapter.load(tmp_path)
    with pytest.raises(ConfideError, match="is not a readable LoRA adapter"):
        Adapter.load(tmp_path / "none")
