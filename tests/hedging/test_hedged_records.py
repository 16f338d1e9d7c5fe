from __future__ import annotations

import json
from pathlib import Path

import pytest

from confide.cli.rewriting_server import RewritingServer
from confide.errors import ConfideError
from confide.hedging import hedged_records, load_language
from confide.hedging.hedged_records import Summary, hedge, with_sentences
from confide.hedging.rewording import Rewriter, Templates
from confide.parts.part_records import PARTS, part_records
from confide.records import Record, read_records
from rewriter_server import Model

EN = load_language("en")


def rows(n: int = 5) -> list[Record]:
    return [Record.model_validate({"id": f"r{i}", "answer": "Japan", "confidence": i / 10, "x": i}) for i in range(n)]


def run(records: list[Record], out: Path, style: str = "plain", seed: int = 0, **more) -> Summary:
    return hedge(records, out, Templates(EN, style, seed), "given", **more)


def one(out: Path, **record) -> dict:
    """What a single record becomes."""
    run([Record.model_validate({"id": "1", **record})], out)
    (row,) = [json.loads(line) for line in out.read_text().splitlines()]
    return row


def test_records_keep_everything_and_gain_their_wording(tmp_path):
    out = tmp_path / "H.jsonl"
    record = {
        "answer": "Japan",
        "confidence": {"given": 0.9, "other": None},
        "correct": True,
        "reference": ["Japan"],
        "messages": [{"role": "user", "content": "Where is Kyoto?"}],
        "note": {"kept": [1]},
    }
    row = one(out, **record)
    assert {key: row[key] for key in record} == record
    assert row["hedged"] == "It is highly likely that the answer is Japan."
    assert row["hedge_status"] == "hedged"
    assert row["hedge_confidence"] == 0.9
    assert row["hedges"] == [
        {"confidence": 0.9, "phrase": "highly likely", "value": 0.9, "by": "template", "refused": 0}
    ]
    assert row["hedge_with"] == {
        "source": "given",
        "style": "plain",
        "language": "en",
        "engine": "templates",
        "model": None,
        "seed": 0,
        "phrases": EN.sha256("plain")[:12],
    }


@pytest.mark.parametrize(
    ("record", "status"),
    [
        ({"answer": "Japan"}, "no_confidence"),
        ({"answer": "Japan", "confidence": {"given": None}}, "no_confidence"),
        ({"answer": " .\n", "confidence": 0.5}, "no_answer"),
        ({"confidence": 0.5}, "no_answer"),
        ({"answer": "<sentence>Japan.</sentence>", "confidence": 0.5}, "malformed_tags"),
        ({"answer": "<sentence>Japan.</sentence><confidence>1.4</confidence>"}, "malformed_tags"),
        ({"answer": "So: <sentence>Japan.</sentence><confidence>0.4</confidence>"}, "malformed_tags"),
    ],
)
def test_rows_without_words_pass_through(tmp_path, record, status):
    row = one(tmp_path / "H.jsonl", **record)
    assert (row["hedge_status"], row["hedged"], row["hedges"], row["hedge_confidence"]) == (status, None, [], None)


def test_tagged_sentences_are_worded_one_by_one_with_their_own_numbers(tmp_path):
    answer = (
        "<sentence>Kyoto is in Japan.</sentence><confidence>0.97</confidence>\n"
        "<sentence>It was its capital until 1868.</sentence><confidence>0.36</confidence>"
    )
    row = one(tmp_path / "H.jsonl", answer=answer, confidence=0.01)
    assert row["hedged"] == (
        "Kyoto is in Japan. That is almost certain. It was its capital until 1868. That is possible."
    )
    assert [h["confidence"] for h in row["hedges"]] == [0.97, 0.36]
    assert [h["value"] for h in row["hedges"]] == [0.95, 0.37]
    assert row["hedge_confidence"] == pytest.approx(0.66)


def test_a_wording_of_several_sentences_is_graded_as_a_whole(tmp_path):
    # The grader reads the first sentence, which the remark leaves as it is.
    answer = (
        "<sentence>Japan.</sentence><confidence>0.9</confidence>"
        "<sentence>It is an island.</sentence><confidence>0.9</confidence>"
    )
    row = one(tmp_path / "H.jsonl", answer=answer, reference=["Japan"], kind="short")
    assert row["hedged"] == "It is highly likely that the answer is Japan. It is an island. That is highly likely."


def test_the_summary_counts(tmp_path):
    records = [
        *rows(4),
        Record.model_validate({"id": "none", "answer": "Japan", "confidence": {"given": None}}),
        Record.model_validate({"id": "bad", "answer": "</sentence>", "confidence": 0.5}),
        Record.model_validate({"id": "own", "answer": "Probably it is Japan", "confidence": 0.7}),
    ]
    summary = run(records, tmp_path / "H.jsonl")
    assert summary.rows == 7
    assert summary.statuses == {
        "hedged": 5,
        "no_confidence": 1,
        "no_answer": 0,
        "malformed_tags": 1,
        "not_kept": 0,
    }
    assert (summary.claims, summary.suffix, summary.replaced, summary.refused) == (5, 0, 0, 0)
    assert summary.hedged_before == 1
    assert summary.largest_error is not None
    assert summary.error is not None
    assert summary.error <= summary.largest_error <= 0.1


def test_a_killed_run_goes_on_where_it_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(hedged_records, "BATCH", 2)
    whole, broken = tmp_path / "whole.jsonl", tmp_path / "broken.jsonl"
    run(rows(5), whole)
    lines = whole.read_text().splitlines(keepends=True)
    broken.write_text("".join(lines[:3]) + lines[3][:40])
    seen: list[tuple[int, int]] = []
    summary = run(rows(5), broken, progress=lambda done, total, note: seen.append((done, total)))
    assert broken.read_text() == whole.read_text()
    assert summary.rows == 5
    assert seen == [(5, 5)]
    before = broken.read_text()
    assert run(rows(5), broken) == summary
    assert broken.read_text() == before


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"style": "formal"}, "style 'plain', now 'formal'"),
        ({"seed": 7}, "seed 0, now 7"),
        ({"records": rows(2)}, r"an answer that is not among the records \(row r2\)"),
    ],
)
def test_a_file_holds_one_way_of_hedging_only(tmp_path, change, sentence):
    out = tmp_path / "H.jsonl"
    run(rows(5), out)
    before = out.read_text()
    with pytest.raises(ConfideError, match=sentence):
        run(**{"records": rows(5), "out": out, **change})
    assert out.read_text() == before


def test_a_wording_for_another_confidence_or_answer_is_made_anew(tmp_path):
    out, whole = tmp_path / "H.jsonl", tmp_path / "whole.jsonl"
    run(rows(6), out)
    before = {row.id: row for row in read_records(out)}
    changed = [
        *rows(6)[:2],
        Record.model_validate({"id": "r2", "answer": "Japan", "confidence": 0.93, "x": 2}),
        Record.model_validate({"id": "r3", "answer": "Chile", "confidence": 0.3, "x": 3}),
        Record.model_validate({"id": "r4", "answer": "Japan", "confidence": {"given": None}, "x": 4}),
        Record.model_validate({"id": "r5", "answer": "Japan", "confidence": 0.5, "x": 9, "correct": True}),
    ]
    summary = run(changed, out)
    run(changed, whole)
    after, anew = ({row.id: row for row in read_records(path)} for path in (out, whole))
    assert after == anew
    assert summary.rows == 6
    assert (after["r0"], after["r1"]) == (before["r0"], before["r1"])
    assert after["r2"].model_extra["hedge_confidence"] > 0.8
    assert "Chile" in after["r3"].model_extra["hedged"]
    assert after["r4"].model_extra["hedge_status"] == "no_confidence"
    assert (after["r5"].correct, after["r5"].model_extra["x"]) == (True, 9)


def test_a_kept_wording_of_a_model_is_not_asked_for_again(tmp_path):
    asked = []

    class Chat:
        url, name = "http://localhost/v1", "m"

        async def ask(self, messages, seed):
            asked.append(messages)
            return "It is highly likely that the answer is Japan."

        async def close(self):
            pass

    def reword(confidences):
        records = [Record(id=f"r{i}", answer="Japan", confidence={"given": c}) for i, c in enumerate(confidences)]
        hedge(records, tmp_path / "H.jsonl", Rewriter(Chat(), EN, "plain"), "given")

    reword([0.9, 0.9, 0.9])
    assert len(asked) == 3
    reword([0.9, 0.91, 0.9])
    assert len(asked) == 4


def test_other_phrases_are_another_way_of_hedging_and_older_files_do_not_tell(tmp_path, monkeypatch):
    out = tmp_path / "H.jsonl"
    run(rows(3), out)
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    style = EN.styles["plain"].model_copy(update={"hedges": EN.styles["plain"].hedges[:-1]})
    other = EN.model_copy(update={"styles": {**EN.styles, "plain": style}})
    with pytest.raises(ConfideError, match=r"phrases '\w{12}', now"):
        hedge(rows(3), out, Templates(other, "plain"), "given")
    for line in lines:
        del line["hedge_with"]["phrases"]
    out.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert run(rows(5), out).rows == 5


def test_records_that_are_not_hedged_are_not_added_to(tmp_path):
    out = tmp_path / "R.jsonl"
    out.write_text('{"id": "r0", "answer": "Japan"}\n')
    with pytest.raises(ConfideError, match="holds records that are not hedged"):
        run(rows(), out)


def test_a_confidence_that_is_no_probability_is_refused(tmp_path):
    records = [*rows(), Record.model_validate({"id": "low", "answer": "x", "confidence": -3.2})]
    with pytest.raises(ConfideError, match=r"1 confidences from given are no probabilities \(row low: -3.2\)"):
        run(records, tmp_path / "H.jsonl")


def test_parquet_is_not_appended_to(tmp_path):
    with pytest.raises(ConfideError, match=r"\.jsonl"):
        run(rows(), tmp_path / "H.parquet")


def test_a_model_words_rows_and_its_refused_rewrites_are_counted(tmp_path):
    writes = {"r9": "Japan, almost certain."}
    records = [
        Record.model_validate({"id": n, "answer": "Japan", "question": n, "confidence": 0.95}) for n in ("r8", "r9")
    ]

    def write(messages: list[dict[str, str]]) -> str:
        return next((text for name, text in writes.items() if name in messages[1]["content"]), "Peru")

    with Model(writes=write).running() as server:
        rewriter = Rewriter(RewritingServer(server.url, "big"), EN, "plain")
        summary = hedge(records, tmp_path / "H.jsonl", rewriter, "given")
    assert (summary.replaced, summary.refused, summary.statuses["hedged"]) == (1, 3, 2)
    extra = {row.id: (row.model_extra or {}) for row in read_records(tmp_path / "H.jsonl")}
    assert extra["r9"]["hedged"] == "Japan, almost certain."
    assert extra["r9"]["hedges"][0]["by"] == "model"
    assert extra["r8"]["hedges"][0]["by"] == "template"


def test_a_server_that_fails_halfway_leaves_what_is_done(tmp_path, monkeypatch):
    monkeypatch.setattr(hedged_records, "BATCH", 2)
    out = tmp_path / "H.jsonl"
    with Model(behaviour=["ok", "ok", "401"]).running() as server:

        def rewriter() -> Rewriter:
            return Rewriter(RewritingServer(server.url, "big"), EN, "plain")

        with pytest.raises(ConfideError, match="wants a key"):
            hedge(rows(6), out, rewriter(), "given")
        assert [row.id for row in read_records(out)] == ["r0", "r1"]
        server.behaviour = ["ok"]
        summary = hedge(rows(6), out, rewriter(), "given")
    assert [row.id for row in read_records(out)] == [f"r{i}" for i in range(6)]
    assert summary.rows == 6


def test_each_sentence_of_a_paragraph_is_worded_by_its_own_confidence(tmp_path: Path) -> None:
    text = "Lyon is in France. Its currency is the franc."
    whole = Record(id="a", answer=text)
    values = {"sentence 1": 0.95, "sentence 2": 0.2}
    parts = [part.model_copy(update={"confidence": {"claim": values[part.part]}})
             for part in part_records(whole, PARTS["sentences"](text))]  # fmt: skip
    rows = with_sentences([whole], parts, "claim")
    summary = hedge(rows, tmp_path / "H.jsonl", Templates(EN, "plain", 0), "claim")
    (row,) = read_records(tmp_path / "H.jsonl")
    hedges = (row.model_extra or {})["hedges"]
    assert [one["confidence"] for one in hedges] == [0.95, 0.2]
    assert all(abs(one["confidence"] - one["value"]) <= 0.1 for one in hedges)
    assert summary.claims == 2
    with pytest.raises(ConfideError, match="are not among the records of parts"):
        with_sentences([whole], parts[:1], "claim")
    with pytest.raises(ConfideError, match="is no sentence of an answer"):
        with_sentences([whole], [whole], "claim")
