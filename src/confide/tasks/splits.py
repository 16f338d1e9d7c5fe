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
from collections.abc import Collection, Mapping, Sequence

from confide.arguments import shown
from confide.errors import ConfideError
from confide.records import Record, Split
from confide.tasks.questions import Question

WAYS = ("standard", "answered-country", "relation")
SPLITS: tuple[Split, ...] = ("train", "validation", "calibration", "test")

Row = Question | Record
"""What is split. A record knows its answer too, which ``answered-country`` needs."""


def assign_splits(
    rows: Sequence[Row],
    by: str,
    sizes: Mapping[str, int],
    seed: int = 0,
    held_out: str | Collection[str] | None = None,
    domains: Collection[str] | None = None,
) -> dict[str, Split]:
    """Give rows their split, whole entities at a time.

    Args:
        rows: questions, or records for a split by answers.
        by: one of `WAYS`.
        sizes: the number of rows wanted in each split; the last entity of a split is cut to its size.
        seed: decides which entities go where; the order of the rows does not.
        held_out: the test domain of ``relation`` (None: drawn from those that leave enough rows), or the held-out
            answers of ``answered-country`` (None: half of them, drawn).
        domains: limits the test rows of ``answered-country`` to domains whose answers are countries.

    Returns:
        Row id → split; rows that are not used are absent.

    Raises:
        ConfideError: a size cannot be reached (with the counts), or there is no such way, domain or answer.
    """
    if unknown := sorted(set(sizes) - set(SPLITS)):
        raise ConfideError(f"no split named {', '.join(unknown)}: there is {', '.join(SPLITS)}")
    if min(sizes.values(), default=0) < 0:
        raise ConfideError(f"a split cannot have {min(sizes.values())} rows")
    # Always in this order, so that the same sizes in another order give the same splits; the small ones are filled
    # first, so that they get their size whatever the entities' sizes are.
    wanted = {name: sizes.get(name, 0) for name in reversed(SPLITS)}
    draw = random.Random(f"{by}-{seed}")
    if by == "standard":
        return _fill(rows, wanted, draw)
    named = {held_out} if isinstance(held_out, str) else None if held_out is None else set(held_out)
    if by == "answered-country":
        test, others = _by_answer(rows, wanted, draw, named, domains)
    elif by == "relation":
        test, others = _by_relation(rows, wanted, draw, named)
    else:
        raise ConfideError(f"no split {by!r}: there is {', '.join(WAYS)}")
    chosen = _fill(test, {"test": wanted["test"]}, draw)
    # Only test rows in use keep their entities from the other side; other held-out rows are dropped.
    used = {_entity(row) for row in test if row.id in chosen}
    rest = [row for row in others if _entity(row) not in used]
    return chosen | _fill(rest, {name: size for name, size in wanted.items() if name != "test"}, draw)


def check_splits(rows: Sequence[Record]) -> list[str]:
    """What is wrong with the splits of records: entities or prompts on several sides. Empty: nothing."""
    problems = []
    for what in ("entity", "question"):
        sides: dict[str, set[str]] = defaultdict(set)
        for row in rows:
            name = row.entity if what == "entity" else _asked(row)
            if row.split is not None and name is not None:
                sides[name].add(row.split)
        if crossing := [name for name, splits in sides.items() if len(splits) > 1]:
            first = min(crossing)
            where = ", ".join(sorted(sides[first]))
            problems.append(
                f"{len(crossing)} times the same {what} in several splits (first: {shown(first)} in {where})"
            )
    return problems


def _asked(row: Record) -> str | None:
    """What a record asks, whatever its case and blanks; one short question may be asked in many conversations."""
    turns = [turn.content for turn in row.earlier] if row.own_turns else []
    return " ".join(" ".join([*turns, row.question]).split()).casefold() or None


def _entity(row: Row) -> str:
    return row.entity if row.entity is not None else f"\0{row.id}"


def _fill(rows: Sequence[Row], sizes: Mapping[Split, int], draw: random.Random) -> dict[str, Split]:
    """Deal shuffled entities to the splits, each until its size is reached."""
    ids: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        ids[_entity(row)].append(row.id)
    # Sorted first, so that the rows' order in the file does not matter.
    entities = sorted(ids)
    draw.shuffle(entities)
    undealt = iter(entities)
    assigned: dict[str, Split] = {}
    for split, size in sizes.items():
        dealt: list[str] = []
        while len(dealt) < size and (entity := next(undealt, None)) is not None:
            dealt += sorted(ids[entity])[: size - len(dealt)]
        if len(dealt) < size:
            asked = ", ".join(f"{name} {sizes[name]}" for name in SPLITS if name in sizes)
            raise ConfideError(
                f"too few rows for {asked}: {split} gets {len(dealt)} of {size} "
                f"({len(rows)} rows of {len(ids)} entities can be used)"
            )
        assigned |= dict.fromkeys(dealt, split)
    return assigned


def _by_answer(
    rows: Sequence[Row],
    sizes: Mapping[Split, int],
    draw: random.Random,
    held_out: set[str] | None,
    domains: Collection[str] | None,
) -> tuple[list[Row], list[Row]]:
    """Rows that answer a held-out country, and rows whose answers name none of them."""
    answers = {row.id: row.answered for row in rows if isinstance(row, Record) and row.answered is not None}
    allowed = [row for row in rows if row.id in answers and (domains is None or row.domain in domains)]
    if not allowed:
        where = f" in {', '.join(sorted(domains))}" if domains else ""
        raise ConfideError(f"answered-country: no answer{where} names a candidate")
    if held_out is None:
        counts = Counter(answers[row.id] for row in allowed)
        held_out = _held_out_half(
            counts, Counter(answers.values()), sizes["test"], len(rows) - sum(sizes.values()), draw
        )
    test = [row for row in allowed if answers[row.id] in held_out]
    # Rows of any domain: an answer seen for a capital, or by mistake, is an answer seen.
    return test, [row for row in rows if answers.get(row.id) not in held_out]


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
    rows: Sequence[Row], sizes: Mapping[Split, int], draw: random.Random, held_out: set[str] | None
) -> tuple[list[Row], list[Row]]:
    """Rows of the held-out domain, and the others."""
    counts = Counter(row.domain for row in rows)
    listed = ", ".join(f"{name or '(none)'} {count}" for name, count in sorted(counts.items()))
    if held_out is None:
        others = sum(sizes.values()) - sizes["test"]
        fitting = [
            name for name in sorted(counts) if counts[name] >= sizes["test"] and len(rows) - counts[name] >= others
        ]
        if len(counts) < 2 or not fitting:
            raise ConfideError(
                f"no relation leaves {sizes['test']} rows to test and {others} others: there are {listed}"
            )
        held_out = {draw.choice(fitting)}
    if missing := sorted(held_out - set(counts)):
        raise ConfideError(f"no rows of {', '.join(missing)}: there are {listed}")
    return [row for row in rows if row.domain in held_out], [row for row in rows if row.domain not in held_out]
