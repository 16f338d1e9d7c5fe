"""Gradient checkpointing: layers are computed again, and what is learned is the same."""

from __future__ import annotations

import pytest
from safetensors.torch import load_file
from torch.testing import assert_close
from transformers.models.llama.modeling_llama import LlamaMLP

from confide.methods.reader.reader import FOLDER
from training_run import recorded, train

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(
    ("what", "weights", "settings"),
    [("reader", f"{FOLDER}/adapter_model.safetensors", {}), ("self_ref", "model.safetensors", {"kl_weight": 0.1})],
)
def test_losses_gradients_and_weights_are_the_same(tmp_path, monkeypatch, what, weights, settings):
    learning, real, found = [], LlamaMLP.forward, {}

    def forward(self, x):
        learning[-1] += self.training
        return real(self, x)

    monkeypatch.setattr(LlamaMLP, "forward", forward)
    for again in (False, True):
        learning.append(0)
        with recorded() as found[again]:
            train(what, tmp_path / str(again), {**settings, "epochs": 2, "gradient_checkpointing": again})
    for name, values in found[False].items():
        assert found[True][name] == pytest.approx(values, rel=1e-3, abs=1e-4), name
    one, other = (load_file(tmp_path / str(again) / weights) for again in (False, True))
    for name, tensor in one.items():
        assert_close(other[name], tensor, atol=1e-4, rtol=1e-3, msg=name)
    # Each of two layers runs forwards, again when its gradient is due, and for the base model where KL asks for it.
    assert learning[1] == len(found[True]["loss"]) * 2 * (3 if settings else 2)
