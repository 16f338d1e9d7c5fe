"""Splits: which rows train, validate, calibrate and test, so that no place is asked about on two sides.

An entity (what a question asks about) always lies whole in one split. Three ways to cut:

* ``standard``: at random.
* ``answered-country``: the test rows are those whose answer names a held-out country, and no row of the other
  splits answers any of them, so that a prior over answers is no help.
* ``relation``: one domain is test only.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

from confide.errors import ConfideError
from confide.records import Split

WAYS = ("standard", "answered-country", "relation")
SPLITS: tuple[Split, ...] = ("train", "validation", "calibration", "test")
# The small ones are filled first, so that they get their size whatever the entities' sizes are.
_ORDER: tuple[Split, ...] = ("test", "calibration", "validation", "train")


class Row(Protocol):
    """What a split needs to know of a row; records have it."""

    @property
    def id(self) -> str:
        """Its name, once in a file."""
        ...

    @property
    def domain(self) -> str:
        """Its relation or subject."""
        ...

    @property
    def entity(self) -> str | None:
        """What it asks about; None: nothing that another row asks about."""
        ...

    @property
    def answered(self) -> str | None:
        """The candidate that its answer names."""
        ...


class SplitRow(Row, Protocol):
    """A row that has been assigned, as `check_splits` reads it."""

    @property
    def split(self) -> Split | None:
        """Where it is."""
        ...

    @property
    def question(self) -> str:
        """What was asked."""
        ...


_R = TypeVar("_R", bound=Row)


def assign_splits(
    rows: Sequence[Row],
    by: str,
    sizes: Mapping[str, int],
    seed: int = 0,
    held_out: str | Collection[str] | None = None,
    domains: Collection[str] | None = None,
) -> dict[str, Split]:
    """Give rows their split; rows that are not used are absent from the result.

    ``sizes`` is the number of rows wanted in each split; whole entities are dealt by ``seed``, and the last
    one is cut to the size. ``held_out`` names the test domain for ``relation`` (None: drawn from those that
    leave enough rows) or the held-out answers for ``answered-country`` (None: half of them, drawn).
    ``domains`` limits the test rows of ``answered-country`` to domains whose answers are countries.
    Raises `ConfideError` with the counts when a size cannot be reached.
    """
    wanted = _sizes(sizes)
    draw = random.Random(f"{by}-{seed}")
    if by == "standard":
        return _fill(rows, wanted, draw)
    out = {held_out} if isinstance(held_out, str) else None if held_out is None else set(held_out)
    if by == "answered-country":
        test, others = _by_answer(rows, wanted, draw, out, domains)
    elif by == "relation":
        test, others = _by_relation(rows, wanted, draw, out)
    else:
        raise ConfideError(f"no split {by!r}: there is {', '.join(WAYS)}")
    chosen = _fill(test, {"test": wanted["test"]}, draw)
    # Only test rows in use keep their entities from the other side; other held-out rows are dropped.
    used = {_entity(row) for row in test if row.id in chosen}
    rest = [row for row in others if _entity(row) not in used]
    return chosen | _fill(rest, {name: size for name, size in wanted.items() if name != "test"}, draw)


def held_out_answers(rows: Iterable[SplitRow]) -> set[str]:
    """The answers of test rows that no row of the other splits gives.

    Rows may carry sampled answers too; training on those must leave out the ones that name these.
    """
    answers: dict[bool, set[str]] = {True: set(), False: set()}
    for row in rows:
        if row.split is not None and row.answered is not None:
            answers[row.split == "test"].add(row.answered)
    return answers[True] - answers[False]


def check_splits(rows: Iterable[SplitRow]) -> list[str]:
    """What is wrong with the splits of records: entities or prompts on several sides. Empty: nothing."""
    entities: dict[str, set[str]] = defaultdict(set)
    prompts: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row.split is None:
            continue
        if row.entity is not None:
            entities[row.entity].add(row.split)
        if row.question:
            prompts[" ".join(row.question.split()).casefold()].add(row.split)
    problems = []
    for what, places in (("entity", entities), ("question", prompts)):
        crossing = {name: sides for name, sides in places.items() if len(sides) > 1}
        if crossing:
            name = min(crossing)
            sides = ", ".join(sorted(crossing[name]))
            problems.append(f"{len(crossing)} times the same {what} in several splits (first: {name!r} in {sides})")
    return problems


def _sizes(sizes: Mapping[str, int]) -> dict[Split, int]:
    if unknown := sorted(set(sizes) - set(SPLITS)):
        raise ConfideError(f"no split named {', '.join(unknown)}: there is {', '.join(SPLITS)}")
    if bad := {name: size for name, size in sizes.items() if size < 0}:
        raise ConfideError(f"a split cannot have {min(bad.values())} rows")
    # Always in one order, so that the same sizes in another order give the same splits.
    return {name: sizes.get(name, 0) for name in _ORDER}


def _entity(row: Row) -> str:
    return row.entity if row.entity is not None else f"\0{row.id}"


def _fill(rows: Sequence[_R], sizes: Mapping[Split, int], draw: random.Random) -> dict[str, Split]:
    """Deal shuffled entities to the splits, each until its size is reached."""
    groups: dict[str, list[_R]] = defaultdict(list)
    for row in rows:
        groups[_entity(row)].append(row)
    # Sorted first, so that the rows' order in the file does not matter.
    entities = sorted(groups)
    draw.shuffle(entities)
    assigned: dict[str, Split] = {}
    at = 0
    for split, size in sizes.items():
        missing = size
        while missing and at < len(entities):
            group = sorted(groups[entities[at]], key=lambda row: row.id)
            for row in group[:missing]:
                assigned[row.id] = split
            missing -= min(missing, len(group))
            at += 1
        if missing:
            asked = ", ".join(f"{name} {sizes[name]}" for name in SPLITS if name in sizes)
            raise ConfideError(
                f"too few rows for {asked}: {split} gets {size - missing} of {size} "
                f"({len(rows)} rows of {len(groups)} entities can be used)"
            )
    return assigned


def _by_answer(
    rows: Sequence[_R],
    sizes: Mapping[Split, int],
    draw: random.Random,
    out: set[str] | None,
    domains: Collection[str] | None,
) -> tuple[list[_R], list[_R]]:
    """Rows that answer a held-out country, and rows whose answers name none."""
    allowed = [row for row in rows if row.answered is not None and (domains is None or row.domain in domains)]
    if not allowed:
        where = f" in {', '.join(sorted(domains))}" if domains else ""
        raise ConfideError(f"answered-country: no answer{where} names a candidate")
    if out is None:
        counts = Counter(row.answered for row in allowed if row.answered is not None)
        everywhere = Counter(row.answered for row in rows if row.answered is not None)
        out = _held_out_half(counts, everywhere, sizes["test"], len(rows) - sum(sizes.values()), draw)
    test = [row for row in allowed if row.answered in out]
    # Rows of any domain: an answer seen for a capital, or by mistake, is an answer seen.
    return test, [row for row in rows if row.answered not in out]


def _held_out_half(
    counts: Mapping[str, int], everywhere: Mapping[str, int], size: int, spare: int, draw: random.Random
) -> set[str]:
    """Half of the answers, drawn, then traded for rarer or more common ones until the test size fits.

    ``counts`` are the rows that each answer brings to the test side, ``everywhere`` the rows that holding it
    out takes from the other side; at most ``size + spare`` rows may go.
    """
    names = sorted(counts)
    draw.shuffle(names)
    inside, outside = names[: len(names) // 2], names[len(names) // 2 :]
    # The other side must not starve: it gives back the most common answers, one for one, while the test side
    # can spare them; then the test side, if short, takes the most common ones for its rarest.
    for _ in range(len(names)):
        have = sum(counts[name] for name in inside)
        gone = sum(everywhere[name] for name in inside)
        if have >= size and gone <= size + spare:
            break
        short = have < size
        give, take = (inside, outside) if short else (outside, inside)
        rare, common = min(give, key=lambda n: (counts[n], n)), max(take, key=lambda n: (counts[n], n))
        change = counts[common] - counts[rare]
        if change <= 0 or (not short and have - change < size):
            break
        give.remove(rare)
        take.remove(common)
        give.append(common)
        take.append(rare)
    return set(inside)


def _by_relation(
    rows: Sequence[_R], sizes: Mapping[Split, int], draw: random.Random, out: set[str] | None
) -> tuple[list[_R], list[_R]]:
    counts = Counter(row.domain for row in rows)
    found = ", ".join(f"{name or '(none)'} {count}" for name, count in sorted(counts.items()))
    if out is None:
        others = sum(sizes.values()) - sizes["test"]
        fitting = [
            name for name in sorted(counts) if counts[name] >= sizes["test"] and len(rows) - counts[name] >= others
        ]
        if len(counts) < 2 or not fitting:
            raise ConfideError(
                f"no relation leaves {sizes['test']} rows to test and {others} others: there are {found}"
            )
        out = {draw.choice(fitting)}
    if missing := sorted(out - set(counts)):
        raise ConfideError(f"no rows of {', '.join(missing)}: there are {found}")
    return [row for row in rows if row.domain in out], [row for row in rows if row.domain not in out]
