"""Where each token of an answer starts in its text."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.engines.openai.completions import completion_of
from confide.engines.openai.reply import Choice, Reply
from confide.engines.token_starts import moved, starts_of_bytes, starts_of_ids
from confide.engines.transformers.transformers_engine import TransformersEngine
from thinking_model import ANSWERS, QUESTIONS, thinking_model
from tiny_model import tiny_model


def spell(pieces: Sequence[bytes], ids: Sequence[int]) -> str:
    return b"".join(pieces[i] for i in ids).decode(errors="replace")


def starts_of(pieces: Sequence[bytes]) -> list[int]:
    return starts_of_ids(range(len(pieces)), lambda ids: spell(pieces, ids))


def test_a_token_may_hold_a_quote_and_a_first_letter() -> None:
    assert starts_of([b'{"', b"name", b'": "Z', "oë".encode(), b'"}']) == [0, 2, 6, 11, 13]


def test_tokens_inside_a_character_start_where_it_does() -> None:
    rocket = "🚀".encode()
    assert starts_of([b"a ", rocket[:1], rocket[1:3], rocket[3:] + b"!", b"b"]) == [0, 2, 2, 2, 4]


def test_bytes_that_are_no_character_are_one() -> None:
    assert starts_of([b"a", b"\xff", b"b"]) == [0, 1, 1]
    assert starts_of([b"a", "é".encode()[:1]]) == [0, 1]  # cut inside a character


@given(st.text(alphabet='ab "é日🚀', max_size=150), st.data())
def test_long_answers_are_decoded_in_windows_to_the_same_starts(text: str, data: st.DataObject) -> None:
    raw = text.encode()
    cuts = sorted(data.draw(st.sets(st.integers(1, max(len(raw) - 1, 1)))) & set(range(1, len(raw))))
    pieces = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True) if b > a]
    where = [number for number, character in enumerate(text) for _ in character.encode()]
    wanted = [where[at] for at in [0, *cuts][: len(pieces)]]
    assert starts_of(pieces) == wanted
    assert starts_of_bytes(pieces, text) == wanted


def test_a_decoder_that_does_not_add_up_tells_nothing() -> None:
    pieces = ["b", "a" * 40]
    assert starts_of_ids([0, 0], lambda ids: pieces[len(ids) % 2]) == []


def test_what_is_stripped_moves_the_starts() -> None:
    assert moved([0, 2, 5], 3) == [0, 0, 2]


def test_an_engine_says_where_its_tokens_start() -> None:
    engine = TransformersEngine(*tiny_model())
    prompt = engine.encode([{"role": "user", "content": "red green"}])
    for one in [*engine.answer([prompt], 40), *engine.sample([prompt], 40, 2)[0]]:
        assert len(one.starts) == len(one.ids)
        for number, start in enumerate(one.starts):
            assert one.text.startswith(engine.decode(one.ids[:number]).rstrip("\ufffd"))
            assert start == len(engine.decode(one.ids[:number]).rstrip("\ufffd")) or "\ufffd" in one.text


@pytest.mark.parametrize("style", ["think", "channel"])
def test_starts_count_from_the_answer_and_not_from_its_reasoning(style: str) -> None:
    engine = TransformersEngine(*thinking_model(style), "thinker")
    prompts = [engine.encode([{"role": "user", "content": question}]) for question in QUESTIONS]
    for one, text in zip(engine.answer(prompts, 40), ANSWERS, strict=True):
        assert one.text == text
        spans = zip(one.starts, [*one.starts[1:], len(text)], strict=True)
        assert [text[a:b] for a, b in spans] == [engine.decode([token]) for token in one.ids]


def told(*texts: str | bytes) -> dict[str, object]:
    raw = [text.encode() if isinstance(text, str) else text for text in texts]
    content = [{"token": t.decode(errors="replace"), "bytes": list(t), "logprob": -0.5} for t in raw]
    return {"content": content}


def test_a_server_tells_them_by_the_bytes_of_its_tokens() -> None:
    rocket = "🚀".encode()
    choice = Choice(' {"a": "é🚀"}', logprobs=told(" {", '"a', '": "é', rocket[:2], rocket[2:] + b'"', "}", "<end>"))
    (found,) = completion_of(Reply([choice]))
    assert found.text == '{"a": "é🚀"}'
    assert found.starts == [0, 1, 3, 8, 8, 10]
    assert len(found.logprobs) == 6


def test_behind_reasoning_they_count_from_the_answer() -> None:
    choice = Choice("Ja pan", "hm", logprobs=told("<think>", "hm", "</think>", "\n", "Ja", " pan", "<end>"))
    assert completion_of(Reply([choice]))[0].starts == [0, 2]


def test_tokens_spelled_another_way_tell_nothing() -> None:
    (found,) = completion_of(Reply([Choice("New York", logprobs=told("▁New", "▁York"))]))
    assert (found.logprobs, found.starts) == ([-0.5, -0.5], [])
