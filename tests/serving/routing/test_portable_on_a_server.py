"""The router with a portable confidence: it is the one that `score` gives, and falls back where it is not there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from answer_world import IDENTITY, served_file, served_world
from confide.engines.openai import reading_check
from confide.errors import ConfideError
from confide.methods.portable.portable_file import PortableFile
from confide.methods.portable.portable_training import train_portable
from confide.methods.scoring import score
from confide.policies import MaxRisk, Policy
from confide.policies.identities import identity_parts
from confide.policies.source_choice import calibrate_best_source
from confide.records import Record
from endpoint_server import Endpoint, share_of
from graded_rows import KINDS, among_options, graded
from reading_server import END, FINGERPRINT, VOCABULARY, ReadingServer
from two_sources import two_sources
from upstreams import Running, Upstream, policy_file, router, until
from verdict_server import VllmServer, exported_folder

ASK = "In which country is the city of Alranburg?"


@pytest.fixture(scope="module")
def portable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("portable")
    train_portable(graded(400), folder)
    return folder


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading_check, "_FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(reading_check, "_LEAST_S", 0.0)


@contextmanager
def routed(folder: Path, small: Any, portable: Path, *, more: Any = None, **settings: Any) -> Iterator[Running]:
    with small.running(), Upstream(answer="Norvonia, of course").running() as big:
        server = {"base_url": small.url, "model": "tiny", "portable": str(portable), **(more or {})}
        config: dict[str, Any] = {"policy": str(policy_file(folder, source="portable")), "small": server}
        config["experts"] = [{"name": "big", "base_url": big.url, "model": "big"}]
        with router(folder, **{**config, **settings}) as running:
            yield running


def knows(text: str) -> str:
    answers = next((said for asked, said in KINDS.items() if asked[:12] == text[:12]), ("I do not know.",))
    return answers[int(share_of(text, "answer") * len(answers))]


def scored(portable: Path, question: str, answer: str, logprobs: list[float]) -> Any:
    """What `score --portable` gives a record."""
    turns = [{"role": "user", "content": question}]
    record = Record.model_validate({"id": "0", "messages": turns, "answer": answer, "logprobs": logprobs})
    (found,) = score([record], ["portable"], portable=PortableFile.load(portable))
    return pytest.approx(found.confidence["portable"], abs=1e-9)


def told(question: str, answer: str) -> list[float]:
    """The log-probabilities that `Endpoint` tells of an answer."""
    return [-0.01 - share_of(question)] * len(range(0, len(answer), 3))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("stream_mode", ["hold", "early"])
def test_a_request_gets_what_score_gives_its_record(
    tmp_path: Path, portable: Path, stream: bool, stream_mode: str
) -> None:
    questions = [row.question for row in graded(12, seed=5)]
    with routed(tmp_path, Endpoint(knows=knows), portable, stream_mode=stream_mode) as running:
        for question in questions:
            assert running.ask(question, stream=stream).status_code == 200
        rows = running.rows()
    wanted = [scored(portable, question, knows(question), told(question, knows(question))) for question in questions]
    assert [(row["source"], row["raw"]) for row in rows] == [("portable", value) for value in wanted]
    assert [row["decision"] for row in rows] == ["answer" if row["raw"] >= 0.5 else "escalate" for row in rows]
    assert len({row["raw"] for row in rows}) > 6


def test_all_pieces_of_a_stream_count(tmp_path: Path, portable: Path) -> None:
    with routed(tmp_path, small := Upstream(answer="Norvonia"), portable, stream_mode="early") as running:
        running.ask(ASK, stream=True)
        (row,) = running.rows()
    values = [token["logprob"] for token in small.tokens("Norvonia")]
    assert row["raw"] == scored(portable, ASK, "Norvonia", values)


@pytest.mark.parametrize(
    ("messages", "question"),
    [
        ([{"role": "user", "content": [{"type": "text", "text": ASK[:20]}, {"type": "text", "text": ASK[20:]}]}],
         f"{ASK[:20]}\n{ASK[20:]}"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}},
                                       {"type": "text", "text": ASK}]}], ASK),
        ([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What?"},
          {"role": "assistant", "content": "Norvonia"}, {"role": "user", "content": ASK}], ASK),
        ([{"role": "system", "content": ASK}], ""),
    ],
    ids=["parts", "image", "conversation", "no user turn"],
)  # fmt: skip
def test_the_text_of_the_last_user_turn_is_the_question(
    tmp_path: Path, portable: Path, messages: list[dict[str, Any]], question: str
) -> None:
    with routed(tmp_path, small := Upstream(answer="Norvonia"), portable) as running:
        assert running.post("/v1/chat/completions", {"messages": messages}).status_code == 200
        (row,) = running.rows()
    values = [token["logprob"] for token in small.tokens("Norvonia")]
    assert row["raw"] == scored(portable, question, "Norvonia", values)


def test_the_least_sure_of_several_answers_counts(tmp_path: Path, portable: Path) -> None:
    small = Upstream(answers=("Norvonia", "Welmarkia"))
    with routed(tmp_path, small, portable, mode="observe") as running:
        running.ask(ASK, n=2)
        (row,) = running.rows()
    values = [
        scored(portable, ASK, answer, [t["logprob"] for t in small.tokens(answer)]).expected for answer in small.answers
    ]
    assert values[0] != pytest.approx(values[1], abs=1e-3)
    assert row["raw"] == pytest.approx(min(values), abs=1e-9)


def test_without_a_policy_it_is_the_confidence_and_else_the_free_one(tmp_path: Path, portable: Path) -> None:
    settings: dict[str, Any] = {"mode": "observe", "policy": None}
    with routed(tmp_path, small := Upstream(answer="Norvonia"), portable, **settings) as running:
        running.ask(ASK)
        small.logprobs = False
        running.ask(ASK)
    first, second = running.rows()
    assert (first["source"], first["raw"] is None) == ("portable", False)
    assert (second["source"], second["raw"]) == ("logprob_sum", None)


@pytest.mark.parametrize("word", ["length", "tools", "content_filter"])
def test_what_is_no_whole_answer_in_words_escalates(tmp_path: Path, portable: Path, word: str) -> None:
    with routed(tmp_path, Upstream(answer="Norvonia", behaviour=[word]), portable) as running:
        told = running.ask(ASK).json()["confide"]
        (row,) = running.rows()
    assert (told["answered_by"], row["source"], row["raw"], row["decision"]) == ("big", "portable", None, "escalate")


def ordered(path: Path, *sources: str, identities: tuple[str, str] = ("", "")) -> str:
    """A policy whose first source knows more than the other one; each was made for a model of its identity."""
    rows = []
    for row in two_sources(1500):
        stack, free = (row.confidence[source] or 0.0 for source in ("stack", "logprob_sum"))
        confidence = dict(zip(sources, (stack, float(np.exp(free))), strict=True))
        rows.append(row.model_copy(update={"confidence": confidence}))
    first, second = sources
    _, policy = calibrate_best_source(rows, [first], MaxRisk(0.1), fallbacks=[second], calibrator="platt")
    assert isinstance(policy, Policy)
    fallbacks = [part.model_copy(update={"identity": identities[1]}) for part in policy.fallbacks]
    policy.model_copy(update={"identity": identities[0], "fallbacks": fallbacks}).save(path)
    return str(path)


def test_a_server_without_log_probabilities_leaves_it_to_the_next_source(tmp_path: Path, portable: Path) -> None:
    class Silent(VllmServer):
        def logprobs(self, ids: list[int], body: dict[str, Any]) -> dict[str, Any] | None:
            return None if self.quiet else super().logprobs(ids, body)

        quiet = False

    more = {"engine": "vllm", "reader": str(exported_folder(tmp_path / "exported")), "adapter": "reads"}
    policy = ordered(tmp_path / "order.json", "portable", "reader")
    with routed(tmp_path, small := Silent(), portable, more=more, policy=policy) as running:
        until(lambda: running.get("/readyz").json().get("reading") == "there")
        running.ask(ASK)
        small.quiet = True
        running.ask(ASK)
    assert [(row["source"], row["raw"] is None) for row in running.rows()] == [("portable", False), ("reader", False)]


def test_it_decides_while_the_learned_reading_is_away(tmp_path: Path, portable: Path) -> None:
    served = served_file(tmp_path / "reading.json", served_world(), VOCABULARY, END, FINGERPRINT)
    more = {"engine": "vllm", "reading": str(served)}
    by = PortableFile.load(portable).scored_by
    identities = IDENTITY, f"{IDENTITY.partition(',')[0]}, portable={by}"
    policy = ordered(tmp_path / "order.json", "stack_served", "portable", identities=identities)
    with routed(tmp_path, small := ReadingServer(), portable, more=more, policy=policy) as running:
        until(lambda: running.get("/readyz").json().get("reading") == "there")
        plugins: tuple[Literal["there", "masked", "none"], ...] = ("there", "masked", "none")
        for small.plugin in plugins:
            assert running.ask(ASK).json()["confide"]["unlike"] == []
        rows = running.rows()
    sources = ["stack_served", "portable", "portable"]
    assert [(row["source"], row["raw"] is None) for row in rows] == [(source, False) for source in sources]
    assert {identity_parts(row["identity"])["portable"] for row in rows} == {by}
    assert identity_parts(rows[0]["identity"])["confidence"] == identity_parts(IDENTITY)["confidence"]


def test_a_policy_for_another_portable_file_is_refused_at_the_start(tmp_path: Path, portable: Path) -> None:
    (folder := tmp_path / "policies").mkdir()
    train_portable(graded(300, seed=4), tmp_path / "newer")
    by = PortableFile.load(portable).scored_by
    policy = {"policy": str(policy_file(folder, source="portable", identity=f"weights=ab, portable={by}"))}
    with routed(tmp_path, Upstream(), portable, **policy) as running:
        told = running.ask(ASK).json()["confide"]
        assert (told["unlike"], told["source"]) == ([], "portable")
    newer = PortableFile.load(tmp_path / "newer").scored_by
    sentence = rf"made for another model \(weights=ab, portable={by}\) than the small model small \(portable={newer}\)"
    with (
        pytest.raises(ConfideError, match=sentence),
        routed(tmp_path, Upstream(), tmp_path / "newer", **policy),
    ):
        pass
    accepted = {**policy, "accept_model": f"portable={newer}"}
    with routed(tmp_path, Upstream(), tmp_path / "newer", **accepted) as running:
        assert running.ask(ASK).json()["confide"]["unlike"] == []


@pytest.mark.parametrize("wrong", ["reader", "portable"])
def test_each_source_is_held_against_what_gives_it(tmp_path: Path, portable: Path, wrong: str) -> None:
    parts = {"portable": f"portable={PortableFile.load(portable).scored_by}", "reader": "confidence=def-second"}
    parts |= {wrong: parts[wrong] + "-another"}
    identities = parts["portable"], parts["reader"]
    policy = ordered(tmp_path / "order.json", "portable", "reader", identities=identities)
    more = {"engine": "vllm", "reader": str(exported_folder(tmp_path / "exported")), "adapter": "reads"}
    with (
        pytest.raises(ConfideError, match=f"made for another model .{parts[wrong]}"),
        routed(tmp_path, VllmServer(), portable, more=more, policy=policy),
    ):
        pass


def test_a_file_of_another_model_is_refused_at_the_start(tmp_path: Path) -> None:
    rows = [row.model_copy(update={"identity": "model=tiny, root=/models/other"}) for row in graded(100)]
    train_portable(rows, tmp_path / "other")
    small = Upstream(card={"root": "/models/tiny"})
    sentence = r"learned from tiny \(model=tiny, root=/models/other\), and the server has another .*root=/models/tiny"
    with pytest.raises(ConfideError, match=sentence), routed(tmp_path, small, tmp_path / "other"):
        pass
    accepted = {"accept_model": "root=/models/tiny"}
    with routed(tmp_path, small, tmp_path / "other", **accepted) as running:
        assert running.ask(ASK).json()["confide"]["source"] == "portable"


def test_what_learned_from_options_alone_says_nothing_of_written_answers(tmp_path: Path) -> None:
    train_portable(among_options(graded(100)), tmp_path / "chosen")
    with pytest.raises(ConfideError, match="among options alone"), routed(tmp_path, Upstream(), tmp_path / "chosen"):
        pass


@pytest.mark.parametrize(
    ("named", "why"),
    [("empty", "empty/portable.json does not exist"), ("other.json", "is not what"), ("none", "none does not exist")],
)
def test_what_is_no_portable_file_is_refused_at_the_start(tmp_path: Path, named: str, why: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "other.json").write_text(json.dumps({"schema": 1}))
    with pytest.raises(ConfideError, match=why), routed(tmp_path, Upstream(), tmp_path / named):
        pass


def test_a_policy_wants_the_file_that_gives_its_source(tmp_path: Path) -> None:
    with (
        Upstream().running() as small,
        pytest.raises(ConfideError, match="decides on portable, which the small model small does not give"),
        router(
            tmp_path,
            policy=str(policy_file(tmp_path, source="portable")),
            small={"base_url": small.url, "model": "tiny"},
        ),
    ):
        pass
