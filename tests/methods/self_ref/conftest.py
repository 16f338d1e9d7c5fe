from __future__ import annotations

import pytest

from confide.methods.self_ref.self_ref_training import train_self_ref
from self_ref_rows import QUICK, toy
from tiny_model import tiny_model


@pytest.fixture(scope="session", params=[True, False], ids=["tied", "untied"])
def trained(request, tmp_path_factory):
    model, tokenizer = tiny_model(tied=request.param)
    out = tmp_path_factory.mktemp("self_ref")
    return train_self_ref(model, tokenizer, toy(), QUICK, out, base_model="tiny"), request.param
