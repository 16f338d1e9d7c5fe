"""Report tokens: the ids of new tokens, for those who read and for those who must not write them."""

from __future__ import annotations

import pytest

from confide.engines.transformers.vocabulary import add_to
from confide.errors import ConfideError
from confide.report_tokens import suppressed_ids, token_ids
from tiny_model import tiny_model


def test_suppressed_ids_and_token_ids():
    model, tokenizer = tiny_model()
    assert suppressed_ids(tokenizer) == []
    with pytest.raises(ConfideError, match="was not trained to report its confidence"):
        token_ids(tokenizer)
    ids = add_to(model, tokenizer)
    assert suppressed_ids(tokenizer) == sorted(ids.all)
    assert token_ids(tokenizer) == ids
    assert tokenizer.decode(ids.all, skip_special_tokens=True) == ""
