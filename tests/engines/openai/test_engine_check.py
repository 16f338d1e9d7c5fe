"""What is found out of servers of several kinds, over HTTP, and what they are never sent."""

from __future__ import annotations

from typing import Any

import pytest

from checked_endpoints import Endpoint, check, llama_cpp, ollama, openai, silent, vllm
from confide.engines.openai import bare_requests
from confide.engines.openai.abilities import Abilities
from confide.engines.openai.engine_check import RISKS
from confide.errors import ConfideError

BOTH = ("logprob_token_ids", "prompt_logprobs")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bare_requests, "_FIRST_WAIT_S", 0.01)


def found(server: Endpoint, *safe: str, **more: Any) -> Abilities:
    with server.running():
        return check(server, *safe, **more)


# -- kinds of servers ------------------------------------------------------------------------------------------------


def test_vllm_gives_everything() -> None:
    told = found(vllm(), *BOTH)
    assert (told.reported, told.other_model, told.root, told.version) == ("tiny", False, "/models/tiny", "0.32.0")
    assert (told.context, told.usage, told.streaming, told.stream_usage) == (2048, True, True, True)
    assert (told.logprobs, told.top_logprobs, told.chosen_ids, told.prompt_logprobs) == (True, 20, True, "chat")
    assert told.token_ids == ("return_token_ids", "return_tokens_as_token_ids")
    assert (told.several, told.samples, told.seeded) == (True, True, True)
    assert (told.learned, told.vocabulary, told.speculative, told.notes) == (False, 1000, False, {})
    assert told.capabilities == {"answers", "samples", "next_tokens", "given_answers"}


def test_the_plug_in_is_seen_by_the_ids_past_the_models_vocabulary() -> None:
    told = found(vllm(plugin=True), *BOTH)
    assert (told.learned, told.vocabulary) == (True, 936)
    assert "states" in told.capabilities


def test_a_hosted_api_refuses_what_it_does_not_know() -> None:
    server = openai()
    told = found(server, *BOTH)
    assert (told.logprobs, told.top_logprobs, told.several, told.seeded) == (True, 20, True, True)
    assert (told.chosen_ids, told.learned, told.prompt_logprobs, told.token_ids) == (False, False, "no", ())
    assert (told.reported, told.other_model) == ("tiny-2026-01-31", False)
    assert (told.version, told.context) == ("", None)
    assert told.capabilities == {"answers", "samples", "next_tokens"}


def test_a_server_without_log_probabilities() -> None:
    told = found(ollama())
    assert (told.logprobs, told.top_logprobs, told.token_ids, told.several) == (False, 0, (), False)
    assert (told.samples, told.seeded, told.version, told.other_model) == (True, True, "0.12.3", False)
    assert told.capabilities == {"answers", "samples"}


def test_what_is_taken_and_passed_over_is_not_given() -> None:
    told = found(silent(), *BOTH)
    assert (told.logprobs, told.chosen_ids, told.prompt_logprobs, told.token_ids) == (False, False, "no", ())
    assert (told.several, told.seeded, told.streaming, told.stream_usage) == (False, False, False, False)
    assert (told.samples, told.learned, told.reported, told.other_model) == (True, False, "", None)


def test_llama_cpp_answers_whatever_model_is_asked_for() -> None:
    told = found(llama_cpp())
    assert (told.logprobs, told.top_logprobs, told.token_ids, told.several) == (True, 20, ("id",), False)
    assert (told.other_model, told.notes["other_model"]) == (None, "it lists only /models/other-7b.gguf")
    assert told.context is None  # that of the model that it lists, whichever answers
    assert found(llama_cpp(), model="other-7b").context == 4096


# -- what may not be asked -------------------------------------------------------------------------------------------


def test_nothing_that_kills_servers_is_sent_to_a_stranger() -> None:
    server = vllm(plugin=True)
    told = found(server)
    assert not server.sent() & {*RISKS, "echo", "prompt"}
    assert (told.chosen_ids, told.learned, told.prompt_logprobs) == (None, None, None)
    sentence = (
        "not asked: kills a server that decodes speculatively; say --safe-to-ask logprob_token_ids if yours does not"
    )
    assert told.notes["chosen_ids"] == sentence
    assert told.notes["learned"] == "cannot be told without chosen token ids"
    assert "--safe-to-ask prompt_logprobs" in told.notes["prompt_logprobs"]
    assert "/metrics" not in " ".join(server.seen)


@pytest.mark.parametrize(
    ("metrics", "not_sent"),
    [
        ("vllm:spec_decode_num_drafts_total 4.0", {"logprob_token_ids", "prompt_logprobs", "echo"}),
        ('vllm:lora_requests_info{max_lora="1"} 0', {"prompt_logprobs", "echo"}),
    ],
)
def test_metrics_that_show_danger_win_over_the_operators_word(metrics: str, not_sent: set[str]) -> None:
    server = vllm(pages={"/version": {"version": "0.32.0"}, "/metrics": f"# HELP\n{metrics}\nvllm:x 1\n"})
    told = found(server, *BOTH)
    assert not_sent & server.sent() == set()
    assert told.prompt_logprobs is None
    assert "metrics show" in told.notes["prompt_logprobs"]
    assert told.speculative == ("spec_decode" in metrics)
    assert told.chosen_ids == (None if told.speculative else True)


def test_one_word_allows_one_field() -> None:
    server = vllm()
    assert found(server, "prompt_logprobs").prompt_logprobs == "chat"
    assert "logprob_token_ids" not in server.sent()


@pytest.mark.parametrize("version", [None, {"version": "0.29.1"}, {"version": "dev"}])
def test_no_id_past_the_vocabulary_is_sent_to_a_version_that_may_not_refuse_it(version: Any) -> None:
    server = vllm(plugin=True, pages={"/version": version} if version else {})
    told = found(server, "logprob_token_ids")
    assert (told.chosen_ids, told.learned) == (True, None)
    assert "0.30" in told.notes["learned"]
    assert all(max(body.get("logprob_token_ids", [0])) < 936 for body in server.requests)


def test_no_answer_of_no_tokens_is_asked_for() -> None:
    server = openai(echoes=True)
    assert found(server, *BOTH).prompt_logprobs == "completions"
    limits = [body.get("max_tokens", body.get("max_completion_tokens")) for body in server.requests]
    assert all(limit > 0 for limit in limits)
    assert sum(limits) <= 100


# -- parts of servers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("most", "top", "note"), [(20, 20, None), (19, 5, "20 are refused"), (4, 1, "5 are refused"),
                                                   (0, 0, "1 are refused")])  # fmt: skip
def test_as_many_likeliest_tokens_are_asked_for_as_are_given(most: int, top: int, note: str | None) -> None:
    told = found(vllm(most_top=most))
    assert (told.logprobs, told.top_logprobs, told.notes.get("top_logprobs")) == (True, top, note)


def test_zeros_are_no_log_probabilities() -> None:
    assert found(vllm(zeros=True)).logprobs is False


@pytest.mark.parametrize("think", ["apart", "inside"])
def test_reasoning_is_seen(think: str) -> None:
    assert found(vllm(think=think)).reasoning == ("apart" if think == "apart" else "in the answer")


def test_a_model_that_wants_its_limit_under_another_name() -> None:
    server = openai(limit="max_completion_tokens")
    told = found(server)
    assert (told.limit_field, told.logprobs, told.seeded) == ("max_completion_tokens", True, True)


def test_answers_that_are_always_alike_are_no_samples() -> None:
    told = found(vllm(greedy=True))
    assert (told.samples, told.seeded) == (False, None)
    assert "all alike" in told.notes["samples"]
    assert "samples" not in told.capabilities


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("logprobs", {"logprobs": False, "top_logprobs": 0}),
        ("n", {"several": False}),
        ("seed", {"seeded": False, "samples": True}),
        ("temperature", {"samples": False, "several": False}),
        ("stream", {"streaming": False}),
        ("stream_options", {"streaming": True, "stream_usage": False}),
        ("return_token_ids", {"token_ids": ("return_tokens_as_token_ids",)}),
        ("return_tokens_as_token_ids", {"token_ids": ("return_token_ids",)}),
    ],
)
@pytest.mark.parametrize("status", [400, 403, 422, 500])
def test_a_field_that_is_refused_is_a_no(field: str, expected: dict[str, Any], status: int) -> None:
    told = found(vllm(statuses={field: status}))
    assert {name: getattr(told, name) for name in expected} == expected


@pytest.mark.parametrize("status", [429, 503, 504])
def test_a_question_that_is_turned_away_is_no_answer(status: int) -> None:
    server = vllm(statuses={"logprobs": status, "stream": status})
    told = found(server)
    assert (told.logprobs, told.streaming, told.seeded) == (None, None, True)
    assert f"({status})" in told.notes["logprobs"]
    tries = sum("top_logprobs" in body for body in server.requests)
    assert tries == (1 if status == 504 else bare_requests.ATTEMPTS)


@pytest.mark.parametrize("field", ["logprobs", "n", "seed", "stream"])
def test_a_server_that_hangs_at_a_question_is_left_alone_with_it(field: str) -> None:
    told = found(vllm(hangs=field), timeout_s=2)
    assert any("no answer in 2 s" in note for note in told.notes.values())
    assert "answers" in told.capabilities


@pytest.mark.parametrize("field", ["logprobs", "n", "seed"])
def test_a_server_that_dies_is_not_asked_on(field: str) -> None:
    server = vllm(dies=field)
    with pytest.raises(ConfideError, match="answered at first and cannot be reached any more"):
        found(server)


def test_an_answer_under_another_name_is_another_models() -> None:
    told = found(vllm(reports="other-7b"))
    assert (told.other_model, told.reported) == (True, "other-7b")


def test_the_key_goes_to_the_api_alone_and_into_nothing_that_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "sk-of-mine")
    server = vllm(key="sk-of-mine")
    told = found(server, *BOTH, api_key_env="MY_KEY")
    assert told.logprobs
    assert told.reported == "tiny Bearer ***"
    assert "sk-of-mine" not in repr(told)
    assert server.seen == ["/v1/models Bearer sk-of-mine", "/version", "/metrics"]


def test_names_that_are_no_words_are_not_printed_as_they_are() -> None:
    assert found(vllm(reports="ti\x1b[31mny\n" * 50)).reported == ("ti?[31mny?" * 50)[:128]
