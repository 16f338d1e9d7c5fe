"""The identity of a model: what can be told of the weights behind an answer, as text that files and rows hold.

An identity is ``part=value`` pairs. In this process ``weights`` is a hash of the weights that answer, and
``confidence`` one of what training left beside them; of a server there is what it reports (``model``,
``fingerprint``) and lists (``root``, ``owner``). Two identities are compared in the parts that both have, since a
server does not report all parts at all times.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from confide.errors import ConfideError
from confide.records import Record

_SEPARATOR = ", "
_LONGEST = 128
IDENTITY_DIGITS = 16
"""Hexadecimal digits of a hash that are enough to tell models apart."""


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


def identity_of(record: Record, source: str) -> str:
    """The identity of what answered ``record`` and gave it the confidence ``source`` ("" when it does not say)."""
    try:
        parts = identity_parts(record.identity)
    except ValueError:  # a name that another system gave
        parts = {"name": record.identity}
    if scored_by := record.scored_by.get(source):
        parts["confidence"] = scored_by
    return identity_text(parts)


def common_identity(records: Iterable[Record], source: str) -> str:
    """The parts of the identity that every record has ("" for none).

    Raises `ConfideError` when the records are answers of different models: a threshold for a mixture is one for none.
    """
    identities = Counter(identity_of(record, source) for record in records)
    first, *others = [identity_parts(identity) for identity in identities] or [{}]
    common = dict(first)
    for parts in others:
        common = {name: value for name, value in common.items() if name in parts}
    known = [identity for identity in identities if identity]
    if any(same_model(one, other) is False for at, one in enumerate(known) for other in known[:at]):
        shown = "; ".join(f"{identity} ({count} rows)" for identity, count in identities.most_common(3))
        raise ConfideError(f"these rows are answers of different models; take those of one with --identity: {shown}")
    return identity_text(common)
