from __future__ import annotations

import numpy as np
import pytest
import torch

from confide.engines.engine import Completion
from confide.engines.transformers.encoding import encode_text
from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.engines.transformers.vocabulary import add_graded
from confide.errors import ConfideError
from confide.methods.rlmf.stating import JUDGE, VALUES, Graded, grade_of, judge_query
from confide.records import Message
from confide.report_tokens import GRADED, GRADES, graded_ids
from stating_model import graded_engine
from tiny_model import tiny_model


def closed(text: str, ids: list[int], by: int | None) -> Completion:
    return Completion(text, ids, [], [], None, "length" if by is None else "stop", by)


def test_grades_are_the_nearest_tenth_and_refuse_other_numbers():
    assert [grade_of(v) for v in (0, 0.04, 0.05, 0.149, 0.5, 0.96, 1)] == [0, 0, 1, 1, 5, 10, 10]
    for bad in (-0.01, 1.01, float("nan")):
        with pytest.raises(ConfideError, match="in \\[0, 1\\]"):
            grade_of(bad)


def test_a_model_without_the_tokens_is_refused():
    model, tokenizer = tiny_model()
    with pytest.raises(ConfideError, match="no graded tokens"):
        Graded(TransformersEngine(model, tokenizer))


def test_a_grade_in_text_is_ordinary_characters():
    engine = graded_engine()
    assert not set(encode_text(engine.tokenizer, f"I say {GRADED[10]}")) & set(engine.grades)
    prompt = engine.encode([Message(role="user", content=f"Is it {GRADED[3]}?")])
    assert not set(prompt) & set(engine.grades)


def test_a_tokenizer_gets_all_grades_or_none():
    model, tokenizer = tiny_model()
    assert graded_ids(tokenizer) == []
    ids = add_graded(model, tokenizer)
    assert len(ids) == GRADES == len(set(ids))
    assert add_graded(model, tokenizer) == ids


def test_what_closes_an_answer_is_what_it_states():
    stating = Graded(graded_engine())
    ids = encode_text(stating.engine.tokenizer, "Japan")
    reading = stating.read(closed("Japan", ids, stating.ids[7]))
    assert (reading.statements[0].text, reading.statements[0].confidence, reading.strict, reading.soft) == (
        "Japan", 0.7, True, 0.0,
    )  # fmt: skip
    assert stating.read(closed("Japan", ids, stating.engine.turn_end)).soft == -1
    assert stating.read(closed("Japan", ids, None)).statements[0].confidence is None
    empty = stating.read(closed(" ", [], stating.ids[0]))
    assert not empty.strict
    assert empty.soft == -0.5
    assert stating.completion("Japan", ids, 0.26) == [*ids, stating.ids[3]]
    assert stating.completion("Japan", [], 1.0) == [*ids, stating.ids[10]]


def test_scoring_takes_the_expectation_and_leaves_out_what_states_nothing():
    engine = graded_engine()
    stating = Graded(engine)
    prompts = [engine.encode([Message(role="user", content=f"city {i}")]) for i in range(3)]
    answers = [encode_text(engine.tokenizer, text) for text in ("Japan", "Chile", "France")]
    found = stating.grades(prompts, answers)
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        with torch.no_grad():
            logits = engine.model(torch.tensor([[*prompt, *answer]])).logits[0, -1].float()
        shares = logits[stating.ids].softmax(-1).numpy()
        assert found.expected[row] == pytest.approx(float(shares @ VALUES), abs=1e-4)
        assert found.mass[row] == pytest.approx(float(logits.softmax(-1)[stating.ids].sum()), abs=1e-4)
        other = logits.softmax(-1).clone()
        other[stating.ids] = 0
        assert found.rival[row] == pytest.approx(float(other.max()), abs=1e-4)
    completions = [closed("", answer, None) for answer in answers]
    assert np.isnan(stating.state(prompts, completions)).all()  # cut
    completions = [closed("", answer, stating.ids[0]) for answer in answers]
    silent = found.mass < found.rival
    assert np.isnan(stating.state(prompts, completions)).tolist() == silent.tolist()
    with torch.no_grad():  # every token alike: eleven of them are likelier than any one
        engine.model.get_output_embeddings().weight *= 0
    assert stating.state(prompts, completions) == pytest.approx([0.5] * 3)


def test_an_answer_ends_where_its_grades_together_are_likelier_than_going_on():
    engine = graded_engine()
    stating = Graded(engine)
    prompt = engine.encode([Message(role="user", content="city")])
    with torch.no_grad():
        before = engine.model(torch.tensor([prompt])).logits[0, -1].float()
    best = int(before[: stating.ids[0]].argmax())
    # Each grade a little less likely than the best token, eleven of them together likelier.
    with torch.no_grad():
        hidden = engine.model.base_model(torch.tensor([prompt])).last_hidden_state[0, -1]
        wanted = before[best] - 0.5
        engine.model.get_output_embeddings().weight[stating.ids] = hidden * (wanted / (hidden @ hidden))
    engine.forget_prefixes()
    completion = engine.answer([prompt], 3)[0]
    assert completion.ids == []
    assert completion.closed_by in stating.ids
    logits = before.clone()
    logits[stating.ids] = wanted
    expected = float(logits[stating.ids].logsumexp(-1) - logits.logsumexp(-1))
    assert completion.end_logprob == pytest.approx(expected, abs=2e-2)


def test_the_self_judgement_is_asked_in_a_turn_of_its_own():
    engine = graded_engine()
    stating = Graded(engine)
    query = judge_query(engine.tokenizer)
    text = engine.tokenizer.decode(query)
    assert JUDGE in text
    assert query[0] == engine.turn_end
    prompt = engine.encode([Message(role="user", content="city")])
    ids = encode_text(engine.tokenizer, "Japan")
    stated, silent = closed("Japan", ids, stating.ids[4]), closed("Japan", ids, engine.turn_end)
    scores = stating.judge([prompt, prompt, prompt], [stated, silent, closed("Japan", ids, stating.ids[9])])
    assert np.isnan(scores).tolist() == [False, True, False]
    assert scores[0] == pytest.approx(stating.grades([prompt], [stating.judge_tail(stated)]).expected[0], abs=1e-5)
    with torch.no_grad():  # rows start alike; told apart, they read what was stated
        torch.manual_seed(0)
        engine.model.get_input_embeddings().weight[stating.ids] += torch.randn(GRADES, 32)
    scores = stating.judge([prompt, prompt], [stated, closed("Japan", ids, stating.ids[9])])
    assert scores[0] != scores[1]
