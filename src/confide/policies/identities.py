"""The identity of a model: what can be told of the weights behind an answer, as text that files and rows hold.

An identity is ``part=value`` pairs. In this process ``weights`` is a hash of the weights that answer, and
``confidence`` one of what training left beside them; of a server there is what it reports (``model``,
``fingerprint``) and lists (``root``, ``owner``). ``portable`` is a hash of what gives the confidence of that name,
which any model may have beside another one, and so is the name of each signal that is read along an answer or of its
parts. Two identities are compared in the parts that both have, since a server does not report all parts at all times.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from confide.errors import ConfideError
from confide.numeric import Ints
from confide.records import Record, RecordTable
from confide.records.coded_column import Coded
from confide.signals import PART_SIGNALS, along_signals

_SEPARATOR = ", "
_LONGEST = 128
IDENTITY_DIGITS = 16
"""Hexadecimal digits of a hash that are enough to tell models apart."""

PORTABLE_PART = "portable"
"""The source that is learned from records alone, and the part that says what gives it."""

OWN_PARTS = (PORTABLE_PART, *along_signals(), *PART_SIGNALS)
"""Sources that have a part of their own in an identity, of their name: each is trained by itself."""

TRAINED_PARTS = ("confidence", *OWN_PARTS)
"""The parts that say what training left beside the weights."""


def identity_text(parts: Mapping[str, object]) -> str:
    """The identity with these parts; what is no text or empty is left out, odd characters are replaced.

    >>> identity_text({"model": "tiny", "fingerprint": None})
    'model=tiny'
    """
    known = {name: value for name, value in parts.items() if isinstance(value, str) and value}
    return _SEPARATOR.join(f"{name}={re.sub(r'[^!-+.-~-]', '_', value)[:_LONGEST]}" for name, value in known.items())


def weights_identity(sha256: str | None) -> str:
    """The identity of weights with this hash ("" where it is not known)."""
    return identity_text({"weights": sha256[:IDENTITY_DIGITS]}) if sha256 else ""


def identity_parts(identity: str) -> dict[str, str]:
    """The parts of an identity; raises ValueError for a text that is none.

    >>> identity_parts("model=tiny, root=/models/a=b")
    {'model': 'tiny', 'root': '/models/a=b'}
    """
    parts = {}
    for pair in identity.split(_SEPARATOR) if identity else ():
        name, equals, value = pair.partition("=")
        if not (name.isidentifier() and equals and value):
            raise ValueError(f"an identity reads part=value{_SEPARATOR}part=value, got {identity!r}")
        parts[name] = value
    return parts


def same_model(identity: str, other: str) -> bool | None:
    """Whether two identities agree in every part that both have (None: they have none in common)."""
    ours, theirs = identity_parts(identity), identity_parts(other)
    common = ours.keys() & theirs.keys()
    return all(ours[name] == theirs[name] for name in common) if common else None


def same_name(name: str, other: str) -> bool:
    """Whether two names of a model are one: the same word, or one folder however its path is spelt.

    >>> same_name("org/model", "org/model/") or same_name("/tmp", "/tmp/../tmp/")
    True
    """
    if name == other:
        return True
    one, two = (Path(n).expanduser() for n in (name, other))
    return bool(name and other) and one.is_dir() and two.is_dir() and one.samefile(two)


def scored_by_part(source: str) -> str:
    """The part of an identity that says what gives the confidence ``source``."""
    return source if source in OWN_PARTS else "confidence"


def identity_of(record: Record, source: str) -> str:
    """The identity of what answered ``record`` and gave it the confidence ``source`` ("" when it does not say).

    What training left beside the weights for another source (rows of a store name it all) is no part of it.
    """
    return _identity(record.identity, record.scored_by.get(source, ""), source)


def _identity(answered: str, scored: str, source: str) -> str:
    """The identity of weights that ``answered`` and what ``scored`` by a source."""
    try:
        parts = identity_parts(answered)
    except ValueError:  # a name that another system gave
        parts = {"name": answered}
    for part in TRAINED_PARTS if source else ():
        if part != scored_by_part(source):
            parts.pop(part, None)
    if scored:
        parts[scored_by_part(source)] = scored
    return identity_text(parts)


def common_identity(records: Iterable[Record], source: str) -> str:
    """The parts of the identity that every record has ("" for none).

    Raises `ConfideError` when the records are answers of different models: a threshold for a mixture is one for none.
    """
    identities, _ = identities_of(RecordTable.of(records), source)
    first, *others = [identity_parts(identity) for identity in identities] or [{}]
    common = dict(first)
    for parts in others:
        common = {name: value for name, value in common.items() if name in parts}
    known = [identity for identity in identities if identity]
    if any(same_model(one, other) is False for at, one in enumerate(known) for other in known[:at]):
        shown = "; ".join(f"{identity} ({count} rows)" for identity, count in identities.most_common() if identity)
        raise ConfideError(f"these rows are answers of different models; take those of one with --identity: {shown}")
    return identity_text(common)


def check_one_model(records: Sequence[Record]) -> None:
    """Raise `ConfideError` naming the models when several answered ``records``, or gave them one confidence.

    Rows that do not say who answered are taken to be of the others' model.
    """
    table = RecordTable.of(records)
    common_identity(table, "")
    for source in sorted({source for pairs in table.coded("scored_by").present() for source, _ in pairs}):
        common_identity(table.take(np.isfinite(table.confidence(source))), source)


def answered_by(identity: str | None, records: Sequence[Record], source: str = "") -> RecordTable:
    """The records whose identity agrees with ``identity`` (None: all of them).

    Raises `ConfideError` for a text that is no identity, and when no record agrees.
    """
    table = RecordTable.of(records)
    if identity is None:
        return table
    counts, of_row = identities_of(table, source)
    try:
        wanted = {other for other in counts if same_model(identity, other)}
    except ValueError as error:
        raise ConfideError(f"--identity: {error}") from None
    if not wanted:
        there = ", ".join(sorted({*counts} - {""})[:3]) or "rows that do not say"
        raise ConfideError(f"no row is an answer of {identity}; there are: {there}")
    return table.take(np.array([other in wanted for other in counts], dtype=np.bool_)[of_row])


def identities_of(table: RecordTable, source: str) -> tuple[Counter[str], Ints]:
    """How many records have each identity, in the order in which they come, and which of these each has [n]."""
    pairs = Coded.both(table.coded("identity"), table.coded("scored_by"))
    names = [_identity(weights, dict(scored or ()).get(source, ""), source) for weights, scored in pairs.values]
    places = {name: place for place, name in enumerate(dict.fromkeys(names))}
    of_row = np.array([places[name] for name in names], dtype=np.int64)[pairs.codes]
    sizes = np.bincount(of_row, minlength=len(places)).tolist()
    return Counter(dict(zip(places, sizes, strict=True))), of_row
