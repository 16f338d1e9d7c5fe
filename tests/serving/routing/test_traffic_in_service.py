"""Answers in service are read in the traffic of the latest ones, as a file's rows are; a shift is told and an alarm."""

from __future__ import annotations

import html
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from confide.methods.portable.portable_file import PortableFile
from confide.methods.portable.portable_training import train_portable
from confide.records import Record
from confide.serving.monitor.alarms import SHIFTED_ANSWERS
from endpoint_server import Endpoint, share_of
from graded_rows import KINDS, long_tailed
from upstreams import Running, policy_file, router

COUNTRY = next(iter(KINDS))


def answer_to(text: str) -> str:
    """One that training gave to a question about an old place, one of its own about a new one."""
    return f"new to {text}" if "New" in text else KINDS[COUNTRY][int(share_of(text) * 4)]


def record_of(question: str) -> Record:
    answer = answer_to(question)
    values = [-0.01 - share_of(question)] * len(range(0, len(answer), 3))
    turns = [{"role": "user", "content": question}]
    return Record.model_validate({"id": question, "messages": turns, "answer": answer, "logprobs": values})


@pytest.fixture(scope="module")
def portable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("portable")
    train_portable(long_tailed(600, 6), folder)
    return folder


@pytest.fixture
def running(tmp_path: Path, portable: Path) -> Iterator[Running]:
    with Endpoint(knows=answer_to).running() as small:
        config: dict[str, Any] = {
            "policy": str(policy_file(tmp_path, source="portable")),
            "small": {"base_url": small.url, "model": "tiny", "portable": str(portable)},
            "experts": [
                {"name": "reread", "self": {"passage": "callables:passage"}},
                {"name": "more", "self": {"samples": 3}},
            ],
        }
        with router(tmp_path, **config) as running:
            yield running


def told(running: Running, of: str, what: str) -> float:
    (line,) = [
        line for line in running.get("/metrics").text.splitlines()
        if line.startswith(f'confide_unseen{{of="{of}",what="{what}"}}')
    ]  # fmt: skip
    return float(line.split()[-1])


def test_answers_are_read_in_the_traffic_of_the_latest_ones(running: Running, portable: Path) -> None:
    file = PortableFile.load(portable)
    old = [COUNTRY.format(f"Old{i}") for i in range(10)]
    new = [COUNTRY.format(f"New{i}") for i in range(SHIFTED_ANSWERS + 20)]
    asked: list[Record] = []
    for question in [*old, *new, *old[:3]]:
        raw = running.ask(question, temperature=0).json()["confide"]["raw"]
        asked.append(record_of(question))
        if len(asked) in (1, 10, 11, 14, 40, len(old) + len(new) + 1):
            assert raw == pytest.approx(file.confidences(asked)[-1], abs=1e-9, rel=0)
        if len(asked) == 10:
            assert told(running, "answers", "latest") == told(running, "answers", "shifted") == 0
            assert 0.15 < told(running, "answers", "training") < 0.25
            assert "confidences fall back" not in running.get("/").text
    # Answers of the small model with a passage, or its samples, are no traffic: each question counts once.
    share = len(new) / len(asked)
    assert told(running, "answers", "latest") == pytest.approx(share)
    assert told(running, "answers", "shifted") > 0.6
    assert told(running, "phrasings", "latest") == 0
    assert any(row["decision"] == "escalate" for row in running.rows())


def test_a_shifted_world_is_an_alarm_and_on_the_page(running: Running) -> None:
    for i in range(SHIFTED_ANSWERS):
        running.ask(COUNTRY.format(f"New{i}"), temperature=0)
    page = html.unescape(running.get("/").text)
    sentence = f"100% of the last {SHIFTED_ANSWERS} answers are ones that training never saw (training "
    assert sentence in page
    assert "confidences fall back on the answer's probability." in page
    assert "Answers new to training" in page
    assert 'confide_alarm{name="unseen",severity="alarm"} 1.0' in running.get("/metrics").text
