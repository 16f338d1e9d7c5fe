"""``confide train portable``: from graded records to ``portable.json``; no model is loaded and nothing is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from confide.errors import ConfideError
from confide.files import locked, write_text, written_folder
from confide.methods.checkpoint import FILE as INFO
from confide.methods.method import check_labels
from confide.methods.portable.answer_signals import fit_signals
from confide.methods.portable.mixture import Mixture, told
from confide.methods.portable.portable_file import FILE, PortableFile
from confide.methods.portable.question_kinds import UNKNOWN
from confide.policies.identities import check_one_model
from confide.records import Record


def train_portable(records: Sequence[Record], out: Path, seed: int = 0) -> str:
    """Learn from graded train records, and write ``portable.json`` into a folder.

    Rows of whose tokens nothing is told are left out: nothing can be had for such rows either.

    Args:
        out: the folder; other files that it holds stay there.
        seed: of the folds and of the kinds of question.

    Returns:
        What was learned, in words.

    Raises:
        ConfideError: labels are all right or all wrong, too few entities, no log-probabilities, several models
            answered, or ``out`` is a checkpoint or in use.
    """
    if (out / INFO).exists():
        raise ConfideError(f"{out} holds a trained model, whose {FILE} is a part of it: choose another folder")
    rows = [record for record, known in zip(records, told(records), strict=True) if known]
    if records and not rows:
        raise ConfideError(f"none of the {len(records)} graded train rows has log-probabilities of its answer")
    check_labels(rows)
    check_one_model(rows)
    with locked(out):
        mixture = Mixture.fit(fit_signals(rows, seed), rows)
        file = PortableFile.of(mixture, rows)
        with written_folder(out, FILE) as part:
            write_text(part / FILE, file.text())
    right, signals = sum(bool(record.correct) for record in rows), mixture.signals
    kinds = set(signals.kinds.predict([record.question for record in rows]).tolist()) - {UNKNOWN}
    words = f"{out}: learned from {len(rows)} graded rows ({right} right, {len(rows) - right} wrong"
    words += f"; {len(records) - len(rows)} without log-probabilities left out" if len(rows) < len(records) else ""
    return f"{words}): {_some(len(kinds), 'kind')} of question, {_some(len(signals.history.given), 'answer')}"


def _some(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"
