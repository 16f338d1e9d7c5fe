"""``portable.json``: holds no word of what it learned from, and says the same wherever it is read."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from confide.errors import ConfideError
from confide.methods.portable.answer_signals import fit_signals
from confide.methods.portable.mixture import Mixture
from confide.methods.portable.portable_file import FILE, PortableFile
from confide.records import Record
from graded_rows import NEW, among_options, graded


def trained(records: list[Record]) -> PortableFile:
    return PortableFile.of(Mixture.fit(fit_signals(records), records), records)


@pytest.fixture(scope="module")
def file() -> PortableFile:
    return trained(graded(400))


@pytest.fixture
def saved(file: PortableFile, tmp_path: Path) -> Path:
    (tmp_path / FILE).write_text(file.text(), encoding="utf-8")
    return tmp_path


def test_what_is_loaded_says_the_same_to_the_last_bit(file: PortableFile, saved: Path) -> None:
    records = [*graded(50, 1), *graded(20, 2, answers=NEW), *among_options(graded(5, 3)), Record(id="bare", answer="a")]
    for path in (saved, saved / FILE):
        again = PortableFile.load(path)
        assert again.confidences(records) == file.confidences(records)
        assert again.scored_by == file.scored_by
        assert again.text() == file.text()
    assert file.confidences(records)[-1] is None
    assert all(0 < value < 1 for value in file.confidences(records)[:-1] if value is not None)
    assert file.confidences([]) == []


def test_it_says_whose_answers_it_learned_from(file: PortableFile, saved: Path) -> None:
    again = PortableFile.load(saved)
    assert (again.model, again.identity, again.training_rows) == ("tiny", "weights=ab12", 400)
    assert again.training_data_sha256 == file.training_data_sha256
    other = graded(400)
    other[0] = other[0].model_copy(update={"correct": not other[0].correct})
    assert trained(other).training_data_sha256 != file.training_data_sha256
    named = trained([r.model_copy(update={"identity": "weights=cd", "model": "big"}) for r in graded(400)])
    assert (named.model, named.identity) == ("big", "weights=cd")
    assert named.scored_by == file.scored_by  # the same numbers
    mixed = [r.model_copy(update={"identity": f"weights={i % 2}"}) for i, r in enumerate(graded(400))]
    with pytest.raises(ConfideError, match="answers of different models"):
        trained(mixed)


def test_no_word_of_questions_and_answers_is_in_it(file: PortableFile) -> None:
    words = {w for r in graded(400) for w in re.findall(r"\w{4,}", f"{r.question} {r.answer}".lower())}
    assert len(words) > 100
    text = file.text().lower()
    assert [word for word in sorted(words) if word in text] == []


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where numbers stand in JSON; of each list the first and the last."""
    if isinstance(value, dict | list):
        parts = value.items() if isinstance(value, dict) else {0: value[0], len(value) - 1: value[-1]}.items()
        for key, part in parts:
            yield from leaves(part, (*path, key))
    else:
        yield path


def test_any_coefficient_changes_who_scored(file: PortableFile) -> None:
    held = json.loads(file.text())
    paths = [path for path in leaves(held["mixture"]) if path not in (("options",), ("entropies",))]
    assert len(paths) > 25
    seen = {file.scored_by}
    for path in paths:
        data = json.loads(file.text())
        *way, last = path
        part = data["mixture"]
        for key in way:
            part = part[key]
        old = part[last]
        part[last] = not old if isinstance(old, bool) else f"{old}0" if isinstance(old, str) else old + 1
        seen.add(PortableFile(Mixture.from_json(data["mixture"])).scored_by)
    assert len(seen) == len(paths) + 1


BROKEN = {
    "nothing": "",
    "no object": "[]",
    "a number": "3",
    "empty": "{}",
    "no mixture": '{"schema": 1, "model": "", "identity": "", "training_rows": 1, "training_data_sha256": ""}',
    "a list for a mixture": '{"schema": 1, "model": "", "identity": "", "training_rows": 1, '
    '"training_data_sha256": "", "mixture": []}',
    "an identity that is none": '{"schema": 1, "model": "", "identity": "somebody", "training_rows": 1, '
    '"training_data_sha256": "", "mixture": {}}',
    "deep": "[" * 100_000,
    "no text": "\x00",
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(ConfideError, match=re.escape(str(tmp_path / FILE))) as told:
        PortableFile.load(tmp_path)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(saved: Path, share: float) -> None:
    text = (saved / FILE).read_text()
    (saved / FILE).write_text(text[: int(share * len(text))])
    with pytest.raises(ConfideError, match="is not what `confide train portable` writes"):
        PortableFile.load(saved)


@pytest.mark.parametrize("part", [
    ("familiar", "weight"), ("familiar", "mean"), ("unfamiliar", "weight"), ("unfamiliar", "bias"),
    ("signals", "text", "weight"), ("signals", "text", "grams"), ("signals", "text", "rarity"),
    ("signals", "kinds", "rarity"), ("signals", "kinds", "words"), ("signals", "kinds", "centres"),
    ("signals", "kinds", "kind"),
])  # fmt: skip
@pytest.mark.parametrize("how", ["shorter", "words", "gone"])
def test_a_part_that_does_not_fit_the_others_is_refused(saved: Path, part: tuple[str, ...], how: str) -> None:
    data = json.loads((saved / FILE).read_text())
    *way, last = part
    inside = data["mixture"]
    for key in way:
        inside = inside[key]
    if how == "gone":
        del inside[last]
    else:
        inside[last] = inside[last][:-1] if how == "shorter" else ["many", "words"]
    (saved / FILE).write_text(json.dumps(data))
    with pytest.raises(ConfideError, match="is not what `confide train portable` writes"):
        PortableFile.load(saved)


@pytest.mark.parametrize(
    ("way", "value"),
    [
        (("signals", "kinds", "words", 0), 10**7),
        (("signals", "kinds", "words", 0), -(10**7)),
        (("signals", "history", "given"), []),
        (("signals", "history", "base"), "half"),
        (("signals", "phrasings"), []),
        (("signals", "open_answers"), "half"),
        (("familiar", "bias", 0), float("nan")),
        (("unfamiliar", "bias", 0), float("nan")),
    ],
    ids=str,
)
def test_what_could_not_be_used_later_is_refused_now(saved: Path, way: tuple[Any, ...], value: Any) -> None:
    data = json.loads((saved / FILE).read_text())
    inside = data["mixture"]
    for key in way[:-1]:
        inside = inside[key]
    inside[way[-1]] = value
    (saved / FILE).write_text(json.dumps(data))
    with pytest.raises(ConfideError, match="is not what `confide train portable` writes") as told:
        PortableFile.load(saved)
    assert "\n" not in str(told.value)


def test_nothing_is_imported_while_an_answer_waits(saved: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from confide.methods.portable.portable_file import PortableFile\n"
        "from confide.records import Record\n"
        f"file = PortableFile.load(Path({str(saved)!r}))\n"
        "before = set(sys.modules)\n"
        "assert file.confidences([Record(id='1', answer='Norvonia', logprobs=[-0.1])]) != [None]\n"
        "assert set(sys.modules) == before, set(sys.modules) - before\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_file_of_another_schema_and_none_are_refused(saved: Path, tmp_path: Path) -> None:
    data = json.loads((saved / FILE).read_text())
    (saved / FILE).write_text(json.dumps(data | {"schema": 2}))
    with pytest.raises(ConfideError, match="has schema 2; this version reads schema 1"):
        PortableFile.load(saved)
    with pytest.raises(ConfideError, match="nowhere"):
        PortableFile.load(tmp_path / "nowhere")


def test_the_same_rows_give_the_same_file(file: PortableFile) -> None:
    assert trained(graded(400)).text() == file.text()


@pytest.mark.parametrize(
    ("identity", "refused"),
    [("weights=ab12", False), ("weights=ab12, root=/m", False), ("", False), ("root=/m", False), ("weights=cd", True)],
)
def test_a_server_of_another_model_is_refused(file: PortableFile, identity: str, refused: bool) -> None:
    if not refused:
        file.check_server(identity)
        return
    with pytest.raises(ConfideError, match=r"learned from tiny \(weights=ab12\), and the server has another model"):
        file.check_server(identity)


def test_what_learned_from_options_alone_says_nothing_of_a_server_that_writes(file: PortableFile) -> None:
    with pytest.raises(ConfideError, match="among options alone"):
        trained(among_options(graded(100))).check_server("")


def test_it_needs_no_torch(saved: Path) -> None:
    code = """
import sys
import pathlib
from confide.methods.portable.portable_file import PortableFile
from confide.records import Record
file = PortableFile.load(pathlib.Path(sys.argv[1]))
(value,) = file.confidences([Record(id="a", answer="France", logprobs=[-0.2], end_logprob=-0.1)])
print(0 < value < 1, {"torch", "transformers"} & {*sys.modules})
"""
    done = subprocess.run([sys.executable, "-c", code, str(saved)], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "True set()", done.stderr


def test_a_control_is_refused_unless_it_is_asked_for(file: PortableFile, tmp_path: Path) -> None:
    lied = replace(file, shuffled_labels=3)
    (tmp_path / FILE).write_text(lied.text(), encoding="utf-8")
    with pytest.raises(ConfideError, match="shuffled labels: a control"):
        PortableFile.load(tmp_path)
    assert PortableFile.load(tmp_path, control=True).shuffled_labels == 3
