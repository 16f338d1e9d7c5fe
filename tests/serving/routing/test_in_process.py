"""The small model in this process: batches, bare questions, refusals, and a real model."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from confide.errors import ConfideError
from confide.serving.routing.in_process import Batcher
from upstreams import FakeAnswer, FakeModel, Upstream, expert_server, policy_file, router

SMALL = {"model": "x"}


def test_concurrent_requests_share_batches(tmp_path: Path) -> None:
    model = FakeModel()
    with router(tmp_path, model=model, small=SMALL) as running, ThreadPoolExecutor(24) as pool:
        found = list(pool.map(lambda i: running.ask(f"question {i}").json(), range(48)))
    assert [body["choices"][0]["message"]["content"] for body in found] == [f"question {i}!" for i in range(48)]
    assert len(model.batches) < 49
    assert max(model.batches) > 1


def test_a_single_user_turn_is_a_bare_question(tmp_path: Path) -> None:
    model = FakeModel()
    with router(tmp_path, model=model, small=SMALL) as running:
        running.ask("Where?")
        turns = [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "Hm?"}]},
        ]
        body = running.post("/v1/chat/completions", {"messages": turns}).json()
    assert model.seen[1:] == [
        "Where?",
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hm?"}],
    ]
    assert body["usage"] == {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"temperature": 0.7}, "temperature"),
        ({"n": 2}, "n"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"stop": ["x"]}, "stop"),
        ({"logprobs": True}, "logprobs"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages"),
    ],
)
def test_what_it_cannot_honour_is_refused_by_name(tmp_path: Path, more: dict[str, Any], param: str) -> None:
    with router(tmp_path, model=FakeModel(), small=SMALL) as running:
        response = running.ask(**more)
        assert response.status_code == 400
        assert response.json()["error"]["param"] == param
        assert running.ask(temperature=0, n=1, stop=None, response_format={"type": "text"}).status_code == 200


def test_what_it_cannot_honour_goes_to_a_server_that_can(tmp_path: Path) -> None:
    model = FakeModel()
    with (
        Upstream(answer="It is Japan").running() as big,
        router(tmp_path, model=model, small=SMALL, experts=[expert_server(big, "big")]) as running,
    ):
        response = running.ask(temperature=0.7, stop=["x"])
        assert response.status_code == 200
        assert response.json()["confide"]["answered_by"] == "big"
        assert running.get("/v1/models/confide").json()["id"] == "confide"
        assert running.get("/v1/models/gpt").status_code == 404
    assert model.seen in ([], ["Hello"])  # the start asks once, to see which confidences there are


def test_no_confidence_and_no_text_escalate(tmp_path: Path) -> None:
    model = FakeModel(lambda question: None)
    experts = [{"name": "tool", "tool": "callables:always"}]
    with router(tmp_path, model=model, small=SMALL, experts=experts) as running:
        assert running.ask().json()["confide"]["served"] == "expert"


def test_the_small_model_may_answer_again_with_samples_or_a_passage(tmp_path: Path) -> None:
    model = FakeModel(lambda question: 0.1)
    experts = [
        {"name": "reread", "self": {"passage": "callables:passage"}},
        {"name": "more", "self": {"samples": 4}},
    ]
    with router(tmp_path, model=model, small=SMALL, experts=experts) as running:
        assert (
            running.ask("Kyoto").json()["choices"][0]["message"]["content"] == "Context: About Kyoto.\nQuestion: Kyoto!"
        )
        body = running.ask("nothing").json()
        assert (body["choices"][0]["message"]["content"], body["confide"]["answered_by"]) == ("Japan", "more")
    # The start's trial, and the answer with a passage, are no traffic in which others are read.
    assert [model.seen[place] for place in model.aside] == ["Hello", "Context: About Kyoto.\nQuestion: Kyoto"]


class Moody(FakeModel):
    """Fails for some questions, and for every batch that holds one."""

    def answers(self, questions: Sequence[Any], *, max_new_tokens: int, **more: Any) -> list[FakeAnswer]:
        if any("too long" in q for q in questions):
            raise ConfideError("900 tokens do not fit")
        if any("crash" in q for q in questions):
            raise RuntimeError("out of memory")
        return super().answers(questions, max_new_tokens=max_new_tokens)


def test_one_bad_request_does_not_take_its_neighbours_with_it(tmp_path: Path) -> None:
    settings = {"small": SMALL, "experts": [{"name": "tool", "tool": "callables:always"}]}
    questions = ["fine", "too long", "fine too", "crash"] * 4
    with router(tmp_path, model=Moody(), **settings) as running, ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda q: running.ask(q).json()["confide"]["served"], questions))
        assert found == ["small", "expert", "small", "expert"] * 4
        assert {row["error"] for row in running.rows()} <= {None, "small: rejected", "small: broken", "small: resting"}


def test_work_of_clients_that_left_is_not_begun() -> None:
    began, leave = threading.Event(), threading.Event()

    class Slow(FakeModel):
        def answers(self, questions: Sequence[Any], *, max_new_tokens: int, **more: Any) -> list[FakeAnswer]:
            began.set()
            leave.wait(5)
            return super().answers(questions, max_new_tokens=max_new_tokens)

    async def work() -> list[Any]:
        model = Slow()
        batcher = Batcher(model, 8, 100)
        first = asyncio.create_task(batcher.submit("first", 8))
        await asyncio.to_thread(began.wait, 5)
        gone, last = asyncio.create_task(batcher.submit("gone", 8)), asyncio.create_task(batcher.submit("last", 8))
        await asyncio.sleep(0.05)
        gone.cancel()
        leave.set()
        await asyncio.gather(first, last)
        await asyncio.to_thread(batcher.close)
        assert not batcher.alive
        return model.seen

    assert asyncio.run(work()) == ["first", "last"]


def batches_of(longest: int, *asked: tuple[str, int]) -> list[list[str]]:
    """The batches of at most four in which questions are answered, each with its limit, that wait together."""
    found: list[list[str]] = []

    class Noting(FakeModel):
        def answers(self, questions: Sequence[Any], *, max_new_tokens: int, **more: Any) -> list[FakeAnswer]:
            found.append(list(questions))
            return super().answers(questions, max_new_tokens=max_new_tokens)

    async def work() -> None:
        batcher = Batcher(Noting(), 4, longest)
        await asyncio.gather(*(batcher.submit(text, most) for text, most in asked))
        await asyncio.to_thread(batcher.close)

    asyncio.run(work())
    return found


def test_requests_of_different_length_are_not_mixed() -> None:
    found = batches_of(100, *((f"{i}", 8 + i % 2) for i in range(12)))
    assert sum(map(len, found)) == 12
    assert max(map(len, found)) <= 4
    assert all(len({int(text) % 2 for text in batch}) == 1 for batch in found)


def test_a_long_prompt_is_not_in_the_batch_of_short_ones() -> None:
    long, longer = ["long " * 600] * 6, ["longer " * 1500] * 3
    found = batches_of(4096, *((text, 8) for text in ["first", *long, *longer, *["short"] * 8]))
    assert all(len(set(batch)) == 1 for batch in found if "first" not in batch)
    sizes = {text: {len(batch) for batch in found if text in batch} for text in ("short", long[0], longer[0])}
    assert max(sizes["short"]) == 4
    assert sizes[long[0]] == {2}  # each is as much work as two of 512 tokens
    assert sizes[longer[0]] == {1}


def test_a_prompt_that_is_too_long_never_gets_into_a_batch() -> None:
    counted: list[Any] = []

    class Counting(FakeModel):
        def prompt_tokens(self, question: Any, *, max_new_tokens: int) -> int:
            counted.append(question)
            return super().prompt_tokens(question, max_new_tokens=max_new_tokens)

    async def work() -> tuple[list[Any], FakeModel]:
        model = Counting()
        batcher = Batcher(model, 4, 100)
        asked = ["fine", "long " * 101, "x" * 3201, [{"role": "user", "content": "y" * 3201}], "long " * 100]
        told = await asyncio.gather(*(batcher.submit(text, 8) for text in asked), return_exceptions=True)
        await asyncio.to_thread(batcher.close)
        return told, model

    told, model = asyncio.run(work())
    assert [str(one) for one in told[1:4]] == ["the prompt is longer than 100 tokens (max_prompt_tokens)"] * 3
    assert (told[0].text, told[4].text) == ("fine!", "long " * 100 + "!")
    assert model.seen == ["fine", "long " * 100]
    assert len(counted) == 3  # what cannot fit by its characters is not even read


def test_neighbours_of_a_crash_are_answered_twice_at_most() -> None:
    runs: list[str] = []

    class Crashing(FakeModel):
        def answers(self, questions: Sequence[Any], *, max_new_tokens: int, **more: Any) -> list[FakeAnswer]:
            runs.extend(questions)
            if any("crash" in question for question in questions):
                raise RuntimeError("out of memory")
            return super().answers(questions, max_new_tokens=max_new_tokens)

    async def work() -> list[Any]:
        batcher = Batcher(Crashing(), 8, 100)
        asked = [f"{i} crash" if i in (3, 5, 11) else f"{i} fine" for i in range(16)]
        told = await asyncio.gather(*(batcher.submit(text, 8) for text in asked), return_exceptions=True)
        await asyncio.to_thread(batcher.close)
        return told

    told = asyncio.run(work())
    assert [i for i, one in enumerate(told) if isinstance(one, RuntimeError)] == [3, 5, 11]
    assert max(runs.count(text) for text in runs) == 2


def test_a_real_model_answers_with_its_confidence(tmp_path: Path) -> None:
    from confide.engines.transformers.transformers_engine import TransformersEngine
    from confide.methods.checkpoint import CheckpointInfo
    from confide.methods.frozen.frozen_model import FrozenModel
    from tiny_model import tiny_model

    model = FrozenModel(TransformersEngine(*tiny_model(seed=1), "tiny"), CheckpointInfo(), "tiny")
    settings = {"small": {"model": "x", "max_tokens": 40}, "mode": "observe"}
    with router(tmp_path, model=model, **settings, experts=[{"name": "more", "self": {"samples": 3}}]) as running:
        body = running.ask("Where is Kyoto?").json()
        direct = model.answer("Where is Kyoto?", max_new_tokens=40)
        assert body["choices"][0]["message"]["content"] == direct.text
        assert body["confide"]["raw"] == pytest.approx(math.log(direct.confidence), rel=1e-3)
        assert body["usage"]["prompt_tokens"] > 5
        assert body["choices"][0]["finish_reason"] == direct.finish == "stop"
        cut = running.ask("Where is Kyoto?", max_tokens=6).json()
        assert (cut["choices"][0]["finish_reason"], cut["confide"]["raw"]) == ("length", None)
        long = running.ask("word " * 2000)
        assert (long.status_code, long.json()["error"]["code"]) == (400, "rejected")
        assert running.rows()[-1]["error"] == "small: rejected"


def test_samples_that_were_cut_are_no_answers(tmp_path: Path) -> None:
    from confide.engines.transformers.transformers_engine import TransformersEngine
    from confide.methods.checkpoint import CheckpointInfo
    from confide.methods.frozen.frozen_model import FrozenModel
    from tiny_model import tiny_model

    model = FrozenModel(TransformersEngine(*tiny_model(seed=1), "tiny"), CheckpointInfo(), "tiny")
    drawn = model.sampled("Where is Kyoto?", 3, max_new_tokens=120)
    assert [answer.text for answer in drawn] == model.samples("Where is Kyoto?", 3, max_new_tokens=120)
    assert "stop" in {answer.finish for answer in drawn}
    assert {a.finish for a in model.sampled("Where is Kyoto?", 3, max_new_tokens=1)} == {"length"}
    small = {"model": "x", "price": {"input": 1e6, "output": 0}}
    settings = {"small": small, "experts": [{"name": "more", "self": {"samples": 3}}]}
    with router(tmp_path, model=model, **settings) as running:
        assert running.ask("Where is Kyoto?", max_tokens=120).json()["confide"]["answered_by"] == "more"
        row = running.rows()[-1]
        tokens = model.prompt_tokens("Where is Kyoto?"), sum(answer.completion_tokens for answer in drawn)
        assert row["expert_tokens"] == sum(tokens)
        assert row["cost"] == 2 * tokens[0]  # the small answer's prompt, and the samples' in one pass
        assert running.ask("Where is Kyoto?", max_tokens=1).status_code == 503
        assert "more: no_answer" in running.rows()[-1]["error"]


def test_a_question_of_the_calibration_rows_is_like_them(tmp_path: Path) -> None:
    from confide.annotation import annotate
    from confide.engines.transformers.transformers_engine import TransformersEngine
    from confide.methods.checkpoint import CheckpointInfo
    from confide.methods.frozen.frozen_model import FrozenModel
    from confide.policies.identities import common_identity
    from confide.policies.requests import request_of_record
    from confide.records import read_records
    from confide.tasks import Task
    from confide.tasks.graders import Grade
    from confide.tasks.questions import Question
    from tiny_model import tiny_model

    leading = [{"role": "system", "content": "red"}, *({"role": r, "content": "blue"} for r in ("user", "assistant"))]
    asked = [Question(id=f"{n}", kind="short", question=f"Where is {n}?", answer=["a"]) for n in range(40)]
    task = Task(
        "tiny", asked, lambda q, a: Grade(True, a), lambda q, a, b: a == b,
        lambda q: [*leading, {"role": "user", "content": q.question}], 30,
    )  # fmt: skip
    engine = TransformersEngine(*tiny_model(seed=1), "tiny")
    annotate(engine, task, tmp_path / "records.jsonl")
    rows = [
        record.model_copy(update={"confidence": {"logprob_sum": 0.5}})
        for record in read_records(tmp_path / "records.jsonl")
    ]
    shapes = [request_of_record(row) for row in rows]
    policy = policy_file(tmp_path, identity=common_identity(rows, "logprob_sum"), requests=shapes)
    trained = FrozenModel(engine, CheckpointInfo.model_validate({"prompts": [leading]}), "tiny")
    plain = FrozenModel(engine, CheckpointInfo(), "tiny")
    small = {"model": "x", "max_tokens": 30}
    for model, unlike in ((trained, []), (plain, ["system", "turns"])):
        with router(tmp_path, model=model, small=small, policy=policy, mode="observe") as running:
            told = running.ask("Where is 7?").json()["confide"]
            assert told["unlike"] == unlike
            assert "temperature" in running.ask("Where is 7?", temperature=0.5).json()["error"]["message"]
            assert running.rows()[-1]["identity"].startswith(engine.identity)
