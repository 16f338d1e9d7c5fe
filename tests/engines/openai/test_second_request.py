from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from confide.engines.openai.adapter_switch import sent_always
from confide.engines.openai.asked import Asked
from confide.engines.openai.exported_reader import READER, Example, ExportedReader
from confide.engines.openai.model_error import ModelError
from confide.engines.openai.reply import Reply
from confide.engines.openai.second_reading import SecondReading
from confide.engines.openai.second_request import SecondRequest
from confide.engines.openai.server_config import Price, ServerModel
from confide.engines.openai.upstream import Http, Server
from confide.errors import ConfideError
from confide.numeric import sigmoid
from verdict_server import (
    ADAPTERS,
    CONFIDENT,
    END,
    SILENT,
    UNCONFIDENT,
    AdaptedLlamaCpp,
    LlamaCppServer,
    VerdictServer,
    VllmServer,
    encoded,
    exported,
    prompt_of,
    z_of,
)

TURNS = [{"role": "system", "content": "Answer briefly."}, {"role": "user", "content": "Where is Nara?"}]
KINDS: dict[str, type[VerdictServer]] = {"vllm": VllmServer, "llama.cpp": LlamaCppServer}
BOTH = pytest.mark.parametrize("kind", KINDS)


def z_after(answer: list[int], turns: list[dict[str, Any]] = TURNS) -> float:
    return z_of([*prompt_of(turns), *answer, END])


def asked(**options: Any) -> Asked:
    return Asked(chat=True, messages=TURNS, options=options, deadline=math.inf, n=options.get("n", 1))


def read(
    stub: VerdictServer,
    kind: Any,
    use: Callable[[SecondRequest, SecondReading], Awaitable[Any]],
    reader: ExportedReader | None = None,
    **more: Any,
) -> Any:
    async def run() -> Any:
        http = Http()
        given = {"name": "m", "base_url": stub.url, "model": "tiny", "fields": ("return_token_ids",)}
        config = ServerModel.model_validate(given)
        named = {"adapter": ADAPTERS[kind], **more}
        second = SecondRequest(config, http, reader or exported(), kind, **named)
        try:
            off = sent_always(kind, named["adapter"]) or None
            reading = SecondReading("m", Server(config, http, always=off), second, config.timeout_s)
            reading.check.problem = None
            return await use(second, reading)
        finally:
            await http.close()

    with stub.running():
        return asyncio.run(run())


def answered(stub: VerdictServer, kind: str, given: Asked | None = None, **more: Any) -> Reply:
    async def use(_: SecondRequest, server: SecondReading) -> Reply:
        return await server.ask(given or asked(temperature=0))

    reply: Reply = read(stub, kind, use, **more)
    return reply


def confidence(z: float) -> Any:
    return pytest.approx(float(sigmoid(z)), rel=1e-9)


@BOTH
def test_an_answer_is_read_after_its_own_tokens(kind: str) -> None:
    reply = answered(KINDS[kind](), kind)
    assert reply.text == "Japan"
    assert reply.sources[READER] == confidence(z_after(encoded("Japan")))
    assert reply.source == READER
    assert reply.identity.endswith("confidence=def-second")


@BOTH
def test_what_a_stream_says_is_read_after_its_last_token(kind: str) -> None:
    async def use(_: SecondRequest, server: SecondReading) -> list[Any]:
        return [piece async for piece in server.stream(asked(temperature=0))]

    *pieces, reply = read(KINDS[kind](), kind, use)
    assert "".join(piece.delta.get("content", "") for piece in pieces) == "Japan"
    assert reply.sources[READER] == confidence(z_after(encoded("Japan")))


@BOTH
@pytest.mark.parametrize("answer", ["Åland – 日本", "né", "Japan"])
@pytest.mark.parametrize("usage", [True, False])
def test_a_stream_s_characters_of_several_tokens(kind: str, answer: str, usage: bool) -> None:
    class Counted(KINDS[kind]):  # type: ignore[misc]
        def usage(self, body: dict[str, Any]) -> dict[str, int]:
            return super().usage(body) if usage else {}

    async def use(_: SecondRequest, server: SecondReading) -> Reply:
        return [piece async for piece in server.stream(asked(temperature=0))][-1]  # type: ignore[return-value]

    reply = read(Counted(knows=lambda question: answer), kind, use)
    assert reply.sources[READER] == confidence(z_after(encoded(answer)))


@BOTH
def test_an_answer_that_ended_with_another_end_token(kind: str) -> None:
    reader = replace(exported(), end_ids=frozenset({END, 262}))
    reply = answered(KINDS[kind](written=lambda text: [*encoded(text), 262]), kind, reader=reader)
    assert reply.sources[READER] == confidence(z_after(encoded("Japan")))


@BOTH
def test_tokens_count_as_they_were_written_not_as_the_text_would_be_encoded(kind: str) -> None:
    # A model may spell a text with other tokens than its tokenizer: here one that shows nothing.
    written = [*encoded("Jap"), SILENT, *encoded("an"), END]
    reply = answered(KINDS[kind](written=lambda text: written), kind)
    assert reply.text == "Japan"
    assert reply.sources[READER] == confidence(z_of([*prompt_of(TURNS), *written]))


@BOTH
def test_reasoning_is_part_of_what_was_written(kind: str) -> None:
    text = "<think>Kyoto?</think>Japan"
    reply = answered(KINDS[kind](knows=lambda question: text), kind)
    assert (reply.text, reply.choices[0].reasoning) == ("Japan", "Kyoto?")
    assert reply.sources[READER] == confidence(z_after(encoded(text)))


@BOTH
def test_characters_of_several_tokens(kind: str) -> None:
    stub = KINDS[kind](knows=lambda question: "Åland – 日本")
    assert answered(stub, kind).sources[READER] == confidence(z_after(encoded("Åland – 日本")))


@BOTH
def test_of_several_answers_the_least_sure_counts(kind: str) -> None:
    class Several(KINDS[kind]):  # type: ignore[misc]
        def answers(self, body: dict[str, Any]) -> list[tuple[str, list[int]]]:
            return [(text, self.written(text)) for text in ("Japan", "Peru")]

    reply = answered(Several(), kind, asked(n=2))
    expected = min(z_after(encoded("Japan")), z_after(encoded("Peru")))
    assert reply.sources[READER] == confidence(expected)


@BOTH
@pytest.mark.parametrize("answer", ["Japan", "Peru", ""])
def test_a_given_answer_is_encoded_by_the_server(kind: str, answer: str) -> None:
    stub = KINDS[kind]()
    z, tokens = read(stub, kind, lambda second, _: second.read_given(TURNS, {}, answer))
    assert z == pytest.approx(z_after(encoded(answer)))
    length = len(prompt_of(TURNS)) + len(encoded(answer)) + 1
    assert tokens == (2 if kind == "vllm" else 1) * (length + 1)
    assert not stub.bodies("/v1/chat/completions")


@BOTH
def test_the_template_is_given_what_the_request_gives_it(kind: str) -> None:
    stub, template = KINDS[kind](), {"enable_thinking": False}
    read(stub, kind, lambda second, _: second.read_given(TURNS, {"chat_template_kwargs": template}, "Japan"))
    (body,) = [body for _, body in stub.asked if "messages" in body]
    assert body["chat_template_kwargs"] == template


@BOTH
@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"finish": "length", "written": lambda text: encoded(text)}, "cut"),
        ({"written": lambda text: encoded(text)}, "ended at a stop string"),
        ({"silent": True}, "token ids are not told"),
        ({"finish": "tool_calls"}, "a call"),
        ({"knows": lambda text: "   "}, "no words"),
    ],
)
def test_what_cannot_be_read_has_no_confidence(kind: str, more: dict[str, Any], why: str) -> None:
    stub = KINDS[kind](**more)
    reply = answered(stub, kind, asked(temperature=0, stop=["."]))
    assert reply.sources[READER] is None, why
    assert reply.source is None
    assert not stub.bodies("/v1/completions") + stub.bodies("/completion")


@BOTH
def test_a_failure_costs_the_reading_not_the_answer(kind: str) -> None:
    reply = answered(KINDS[kind](fails=9), kind)
    assert (reply.text, reply.sources[READER]) == ("Japan", None)


ODD: list[Any] = [None, 5, True, "x", -1.5, 10**400, [], {}, [-5], [None], [[1]], [{"id": [1], "prob": 0.5}]]


@BOTH
@pytest.mark.parametrize("odd", ODD, ids=lambda odd: repr(odd)[:16])
@pytest.mark.parametrize("where", ["choices", "logprobs", "tokens", "token_logprobs", "top_logprobs", "token_ids"])
def test_in_whatever_shape_a_server_tells_it_the_answer_stays(kind: str, where: str, odd: Any) -> None:
    class Odd(KINDS[kind]):  # type: ignore[misc]
        def chat(self, body: dict[str, Any]) -> list[dict[str, Any]]:
            *chunks, whole = super().chat(body)
            if where == "token_ids":
                whole |= {"prompt_token_ids": odd, "choices": [whole["choices"][0] | {"token_ids": odd}]}
            return [*chunks, whole]

        def tokenize(self, body: dict[str, Any]) -> dict[str, Any]:
            return {"tokens": odd} if where == "token_ids" else super().tokenize(body)  # type: ignore[no-any-return]

        def completions(self, body: dict[str, Any]) -> dict[str, Any]:
            told: dict[str, Any] = super().completions(body)
            (choice,) = told["choices"]
            return {
                "choices": told | {"choices": odd},
                "logprobs": told | {"choices": [choice | {"logprobs": odd}]},
                "token_ids": told,
            }.get(where, told | {"choices": [choice | {"logprobs": choice["logprobs"] | {where: odd}}]})

        def completion(self, body: dict[str, Any]) -> dict[str, Any]:
            told: dict[str, Any] = super().completion(body)
            (place,) = told["completion_probabilities"]
            return {
                "choices": told | {"completion_probabilities": odd},
                "logprobs": told | {"completion_probabilities": [odd]},
                "tokens": told | {"completion_probabilities": [place | {"top_probs": [{"id": odd, "prob": odd}]}]},
                "token_ids": told,
            }.get(where, told | {"completion_probabilities": [place | {"top_probs": odd}]})

    reply = answered(Odd(), kind)
    assert reply.text == "Japan"
    assert reply.sources[READER] in (None, confidence(z_after(encoded("Japan"))))


@BOTH
def test_a_server_that_fails_once_is_asked_again(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("confide.engines.openai.second_request.wait_s", lambda attempt, least: 0.0)
    reply = answered(KINDS[kind](fails=1), kind, retries=2)
    assert reply.sources[READER] == confidence(z_after(encoded("Japan")))


@BOTH
@pytest.mark.parametrize("stream", [False, True])
def test_a_server_that_was_away_is_looked_at_before_it_is_believed(kind: str, stream: bool) -> None:
    async def use(second: SecondRequest, server: SecondReading) -> list[float | None]:
        stub.z = lambda ids: 5.0  # what is there again has other weights
        away = SecondReading("m", Server(gone, http := Http()), second, 1.0)
        away.check.problem = None
        with pytest.raises(ModelError, match="refused"):
            [piece async for piece in away.stream(asked())] if stream else await away.ask(asked())
        await http.close()
        server.check.problem = away.check.problem
        return [(await server.ask(asked(temperature=0))).sources[READER], await away.check.look() or ""]  # type: ignore[list-item]

    gone = ServerModel(name="m", base_url="http://127.0.0.1:9/v1", model="tiny", fields=("return_token_ids",))
    confidence, found = read(stub := KINDS[kind](), kind, use)
    assert confidence is None
    assert "other weights" in found


@BOTH
def test_what_it_read_and_wrote_is_counted_and_paid(kind: str) -> None:
    reply = answered(KINDS[kind](), kind)
    requests, length = (2 if kind == "vllm" else 1), len(prompt_of(TURNS)) + 5 + 1
    assert (reply.read_tokens, reply.verdict_tokens) == (requests * length, requests)
    assert (reply.prompt_tokens, reply.completion_tokens) == (len(prompt_of(TURNS)), 6)
    assert reply.spent_tokens == reply.tokens + requests * (length + 1)
    assert reply.price(Price(input=1e6, output=1e6)) == pytest.approx(reply.spent_tokens)


@BOTH
def test_the_key_goes_with_every_request(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY_OF_IT", "sk-1")
    stub = KINDS[kind]()

    async def run() -> None:
        http = Http()
        config = ServerModel(name="m", base_url=stub.url, model="tiny", api_key_env="KEY_OF_IT")
        second = SecondRequest(config, http, exported(), kind, ADAPTERS[kind])  # type: ignore[arg-type]
        await second.read_given(TURNS, {}, "Japan")
        await http.close()

    with stub.running():
        asyncio.run(run())
    assert set(stub.keys) == {"Bearer sk-1"}


def test_a_stock_vllm_is_never_asked_for_chosen_ids_unasked() -> None:
    stub = VllmServer()
    answered(stub, "vllm")
    bodies = stub.bodies("/v1/completions")
    assert [body["allowed_token_ids"] for body in bodies] == [[CONFIDENT], [UNCONFIDENT]]
    assert not any("logprob_token_ids" in body or "logit_bias" in body for _, body in stub.asked)


def test_one_request_is_enough_where_chosen_ids_are_safe() -> None:
    stub = VllmServer()
    reply = answered(stub, "vllm", chosen_ids=True)
    (body,) = stub.bodies("/v1/completions")
    assert body["logprob_token_ids"] == [CONFIDENT, UNCONFIDENT]
    assert reply.sources[READER] == confidence(z_after(encoded("Japan")))
    assert reply.verdict_tokens == 1


def test_an_adapter_reads_what_the_model_answered() -> None:
    stub = VllmServer()
    answered(stub, "vllm")
    assert {body["model"] for body in stub.bodies("/v1/completions")} == {"reads"}
    assert {body["model"] for body in stub.bodies("/v1/chat/completions")} == {"tiny"}


@pytest.mark.parametrize("stream", [False, True])
def test_llama_cpp_switches_the_adapter_by_request(stream: bool) -> None:
    async def use(_: SecondRequest, server: SecondReading) -> Any:
        given = asked(temperature=0)
        return [piece async for piece in server.stream(given)][-1] if stream else await server.ask(given)

    reply = read(stub := AdaptedLlamaCpp(), "llama.cpp", use)
    assert not any(body["cache_prompt"] for body in stub.bodies("/completion") + stub.bodies("/v1/chat/completions"))
    assert reply.text == "Japan"  # by the model alone, although the server was started with the adapter on
    assert reply.sources[READER] == confidence(z_after(encoded("Japan")))


@pytest.mark.parametrize(("adapter", "known"), [("1", True), ("0", False), ("7", False)])
def test_another_adapter_on_llama_cpp_is_seen(adapter: str, known: bool) -> None:
    told = problem(AdaptedLlamaCpp(), "llama.cpp", adapter=adapter)
    assert (told is None) == known, told


@pytest.mark.parametrize("adapter", ["reads", "-1", "1.5", ""])
def test_llama_cpp_numbers_its_adapters(adapter: str) -> None:
    with pytest.raises(ConfideError, match="no number"):
        answered(LlamaCppServer(), "llama.cpp", adapter=adapter)


def problem(stub: VerdictServer, kind: str, reader: ExportedReader | None = None, **more: Any) -> str | None:
    found: str | None = read(stub, kind, lambda second, _: second.problem(), reader, **more)
    return found


@BOTH
def test_the_server_of_the_exported_weights_has_no_problem(kind: str) -> None:
    assert problem(KINDS[kind](), kind) is None
    assert problem(KINDS[kind](z=lambda ids: z_of(ids) + 0.1), kind) is None  # bfloat16


@BOTH
def test_other_weights_are_seen(kind: str) -> None:
    told = problem(KINDS[kind](z=lambda ids: 0.1), kind)
    assert told is not None
    assert "other weights" in told


def test_a_vocabulary_without_the_ids_is_seen() -> None:
    reader = exported()
    outside = ExportedReader(9000, 9001, END, frozenset({END}), reader.identity, "m", reader.examples)
    told = problem(VllmServer(), "vllm", outside)
    assert told is not None
    assert "does not take the second request" in told


@pytest.mark.parametrize(("kind", "stub"), [("vllm", LlamaCppServer), ("llama.cpp", VllmServer)])
def test_another_kind_of_server_is_seen(kind: str, stub: type[VerdictServer]) -> None:
    told = problem(stub(), kind)
    assert told is not None
    assert "another kind of server" in told


def test_log_probabilities_after_the_mask_are_seen() -> None:
    # vLLM with --logprobs-mode processed_logprobs: the one token that is allowed is certain.
    told = problem(VllmServer(masked=True), "vllm")
    assert told is not None
    assert "does not tell the probabilities" in told
    assert answered(VllmServer(masked=True), "vllm").sources[READER] is None


@BOTH
@pytest.mark.parametrize("z", [-60.0, -20.0, 0.25, 20.0, 60.0])
def test_a_very_sure_model_keeps_its_ratio(kind: str, z: float) -> None:
    reader = exported()
    sure = ExportedReader(**{**vars(reader), "examples": (Example(reader.examples[0].ids, z),)})
    assert problem(KINDS[kind](z=lambda ids: z), kind, sure) is None
