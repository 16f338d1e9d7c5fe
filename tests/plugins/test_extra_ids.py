"""The plug-in's arithmetic, and what confide reads back of it: without vLLM, through the same JSON."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from confide.engines.openai.learned_reading import LearnedReading
from confide_vllm.extra_ids import DIGITS, EXTRA, FLOOR, ROOM, Fingerprint, extended, project, split, widen

VOCABULARY, WIDTH, LAYERS, END = 50, 16, 2, 3
POSITIONS = ("prompt_end", "answer_mean", "answer_last")
OFFSET = (0.25, -1.5, 0.75)
BYTES = (7, 0, 255, 128)
READING = LearnedReading(VOCABULARY, POSITIONS, OFFSET, frozenset({END}), BYTES)
TOLERANCE = {torch.float32: 3e-4, torch.float16: 4e-4, torch.bfloat16: 3e-3}


def directions(seed: int = 0) -> tuple[Tensor, Tensor]:
    torch.manual_seed(seed)
    return torch.randn(LAYERS, WIDTH, len(POSITIONS)), torch.tensor(OFFSET)


def states(tokens: int, seed: int = 1) -> list[Tensor]:
    torch.manual_seed(seed)
    return [torch.randn(tokens, WIDTH) * 2 for _ in range(LAYERS)]


def log_probabilities(layers: list[Tensor], dtype: torch.dtype = torch.float32, seed: int = 2) -> Tensor:
    """[tokens, V + EXTRA] as an engine computes them that runs in ``dtype``."""
    torch.manual_seed(seed)
    hidden, head = torch.randn(len(layers[0]), WIDTH).to(dtype), torch.randn(WIDTH, VOCABULARY).to(dtype)
    kept, shares = split(widen(hidden, project(layers, *directions())), len(POSITIONS))
    return extended(kept @ head, shares, torch.tensor(BYTES)).log_softmax(-1)


def content(rows: Tensor, ids: list[int], answer: list[int]) -> list[dict[str, Any]]:
    """What a server tells of the tokens ``answer``, one row each."""
    return [
        {
            "token": f"token_id:{token}",
            "logprob": float(row[token]),
            "top_logprobs": [{"token": f"token_id:{id}", "logprob": float(row[id])} for id in (token, *ids)],
        }
        for row, token in zip(rows, answer, strict=True)
    ]


def wanted(layers: list[Tensor], start: int = 0) -> float:
    """z of an answer by its definition, in double precision: the last row is its last token."""
    weight, offset = (part.double() for part in directions())
    rows = torch.stack(layers).double()[:, start:]
    inside = rows[:, 1:].sum(1) / max(1, rows.shape[1] - 1)
    picked = torch.stack([rows[:, 0], inside, rows[:, -1]])
    return float(torch.einsum("plw,lwp->", picked, weight) + offset.sum())


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("tokens", [0, 1, 2, 30])
def test_z_comes_back_as_it_was(dtype: torch.dtype, tokens: int) -> None:
    layers = states(tokens + 1)
    answer = [*range(10, 10 + tokens), END]
    read = READING.read(content(log_probabilities(layers, dtype), READING.ids, answer))
    assert read.z == pytest.approx(wanted(layers), abs=TOLERANCE[dtype])
    assert read.ids == answer[:-1]
    assert len(read.logprobs) == tokens
    assert read.end_logprob is not None


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_reasoning_is_not_read(dtype: torch.dtype) -> None:
    layers = states(8)
    answer = [*range(10, 17), END]
    read = READING.read(content(log_probabilities(layers, dtype), READING.ids, answer), start=4)
    assert read.z == pytest.approx(wanted(layers, start=4), abs=TOLERANCE[dtype])
    assert read.ids == [14, 15, 16]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("temperature", [0.01, 1.0, 2.0, 6.0])
def test_ids_past_the_vocabulary_have_no_probability_and_move_none(dtype: torch.dtype, temperature: float) -> None:
    torch.manual_seed(0)
    logits, shares = (torch.randn(9, VOCABULARY) * 12).to(dtype), torch.randn(9, 3) * ROOM
    served = extended(logits, shares.clamp(-ROOM, ROOM), torch.tensor(BYTES))
    assert torch.equal(served[:, :VOCABULARY], logits.float())
    chances = (served / temperature).softmax(-1)
    assert chances[:, VOCABULARY:].count_nonzero() == 0
    torch.testing.assert_close(chances[:, :VOCABULARY], (logits.float() / temperature).softmax(-1), rtol=1e-6, atol=0.0)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_what_travels_beside_hidden_states_leaves_them_alone(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    hidden, shares = torch.randn(7, WIDTH).to(dtype), torch.randn(7, 3) * 20
    picked = widen(hidden, shares)[[5, 0, 5]]
    kept, back = split(picked, 3)
    assert torch.equal(kept, hidden[[5, 0, 5]])
    assert kept.is_contiguous()
    bits = {torch.float32: 24, torch.float16: 21, torch.bfloat16: 15}[dtype]
    torch.testing.assert_close(back, shares[[5, 0, 5]], rtol=2.0**-bits, atol=1e-5)


def test_half_the_bits_would_not_do() -> None:
    """One bfloat16 column is off by more than the tolerance of two: the test of z would fail."""
    shares = torch.tensor([[9.98]])
    assert abs(float(shares.to(torch.bfloat16)) - 9.98) > 5 * TOLERANCE[torch.bfloat16]
    assert abs(float(split(widen(torch.zeros(1, 2).bfloat16(), shares), 1)[1]) - 9.98) < 1e-3


def test_a_batch_of_mixed_requests_reads_each_as_alone() -> None:
    """Rows of several requests, some of which ask for no reading, lie in any order."""
    lengths = [1, 4, 2, 9]
    each = [states(n, seed=n) for n in lengths]
    rows = [torch.cat([one[i] for one in each]) for i in range(LAYERS)]
    order = torch.randperm(sum(lengths), generator=torch.Generator().manual_seed(3))
    mixed = log_probabilities([layer[order] for layer in rows])
    found, start = torch.empty_like(mixed), 0
    found[order] = mixed
    for n, one in zip(lengths, each, strict=True):
        told = content(found[start : start + n], READING.ids, [*range(20, 19 + n), END])
        assert READING.read(told).z == pytest.approx(wanted(one), abs=3e-4)
        start += n


def test_equal_columns_give_equal_numbers() -> None:
    weight = directions()[0][..., :1].expand(-1, -1, 3)
    shares = project(states(5), weight, torch.zeros(3))
    _, back = split(widen(torch.zeros(5, WIDTH).bfloat16(), shares), 3)
    rows = extended(torch.zeros(5, VOCABULARY), back, torch.tensor(BYTES)).log_softmax(-1)
    assert torch.equal(rows[:, VOCABULARY + 1], rows[:, VOCABULARY + 2])
    assert torch.equal(rows[:, VOCABULARY + 1], rows[:, VOCABULARY + 3])


def test_a_state_that_is_no_number_is_no_reading_and_spoils_no_other() -> None:
    layers = states(4)
    layers[0][2, 5] = torch.nan
    rows = log_probabilities(layers)
    assert torch.isfinite(rows[:, : VOCABULARY + 1]).all()
    told = content(rows.nan_to_num(neginf=-9999.0), READING.ids, [10, 11, 12, END])
    assert READING.read(told).z is None
    assert READING.read(told[:2] + told[3:]).z is not None


def test_states_too_large_for_float16_are_cut_as_where_the_reading_was_fitted() -> None:
    weight = torch.full((1, WIDTH, 1), 1e-5)
    huge = torch.full((1, WIDTH), 1e9)
    assert float(project([huge], weight, torch.zeros(1))) == pytest.approx(60_000 * WIDTH * 1e-5)
    assert float(split(widen(huge, torch.tensor([[1e6]])), 1)[1]) == ROOM


@pytest.mark.parametrize("spoilt", ["no ids", "one id short", "masked", "null", "no list", "cut", "another end"])
def test_without_all_of_it_there_is_no_z(spoilt: str) -> None:
    told = content(log_probabilities(states(4)), READING.ids, [10, 11, 12, END])
    assert READING.read(told).z is not None
    tops = told[-1]["top_logprobs"]
    if spoilt == "no ids":
        told[-1]["top_logprobs"] = []
    elif spoilt == "one id short":
        tops.pop()
    elif spoilt in ("masked", "null"):
        tops[-1]["logprob"] = -9999.0 if spoilt == "masked" else None
    elif spoilt == "no list":
        told[-1]["top_logprobs"] = None
    else:
        told[-1]["token"] = "token_id:13"
    assert READING.read(told).z is None
    assert READING.read([]).z is None


@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_a_hole_anywhere_in_an_answer_is_no_reading(place: int) -> None:
    told = content(log_probabilities(states(4)), READING.ids, [10, 11, 12, END])
    told[place]["top_logprobs"][1]["logprob"] = -9999.0
    assert READING.read(told).z is None


def test_tokens_that_are_told_by_text_are_refused() -> None:
    with pytest.raises(ValueError, match="by their text"):
        READING.read([{"token": "Paris", "logprob": -0.1, "top_logprobs": []}])


def test_the_fingerprint_comes_back_and_tells_what_is_wrong() -> None:
    rows = log_probabilities(states(1))
    told = content(rows, READING.fingerprint_ids, [END])
    assert READING.wrong(told) is None
    other = LearnedReading(VOCABULARY, POSITIONS, OFFSET, frozenset({END}), (7, 0, 254, 128))
    assert other.wrong(told) == "it serves another export: fingerprint 0700ff80, not 0700fe80"
    assert "no vLLM of 0.30" in str(READING.wrong(content(rows, [], [END])))
    assert "no vLLM of 0.30" in str(READING.wrong([]))
    plain = torch.randn(1, VOCABULARY + EXTRA).log_softmax(-1)  # a larger model without the plug-in
    assert "without confide's plug-in" in str(READING.wrong(content(plain, READING.fingerprint_ids, [END])))
    assert READING.fields()["logprob_token_ids"] == [50, 51, 52, 53, 113]
    assert READING.fields(check=True)["logprob_token_ids"] == [50, 110, 111, 112, 113]
    assert len(READING.fingerprint_ids) == 1 + DIGITS


def test_every_byte_of_a_fingerprint_survives() -> None:
    for value in range(0, 256, 5):
        rows = extended(torch.randn(1, VOCABULARY) * 9, torch.zeros(1, 3), torch.tensor([value] * DIGITS))
        reading = LearnedReading(VOCABULARY, POSITIONS, OFFSET, frozenset({END}), (value,) * DIGITS)
        assert reading.wrong(content(rows.log_softmax(-1), reading.fingerprint_ids, [END])) is None


def fingerprint(weights: dict[str, Tensor]) -> list[int]:
    taken = Fingerprint()
    assert [name for name, _ in taken.watch(weights.items())] == list(weights)
    return taken.bytes()


def test_a_fingerprint_sees_any_change_and_no_order() -> None:
    weights = {"a": torch.randn(4, 6).bfloat16(), "b": torch.randn(3), "c": torch.arange(5), "d": torch.tensor(1.5)}
    own = fingerprint(weights)
    assert fingerprint(dict(reversed(weights.items()))) == own
    nudged = weights["b"].clone()
    nudged[1] = torch.nextafter(nudged[1], torch.tensor(9.0))
    changed = [
        {**weights, "b": nudged},
        {**weights, "a": weights["a"].float()},
        {**weights, "a": weights["a"].reshape(6, 4)},
        {**weights, "e": weights["d"]},
        {"x" + name: tensor for name, tensor in weights.items()},
        {**weights, "d": -weights["d"]},
    ]
    assert own not in [fingerprint(other) for other in changed]
    strided = {**weights, "a": weights["a"].t().contiguous().t()}
    assert fingerprint(strided) == own


def test_the_floor_leaves_room_in_float32() -> None:
    """Shares lie where one step of float32 is at most 6.1e-5, so that z keeps 3e-4."""
    largest = torch.tensor(-(FLOOR - ROOM) + 60)  # beside a real logit of 60
    assert float(torch.nextafter(largest, torch.tensor(1e9)) - largest) < 6.2e-5
