"""Do two replies say the same? docs/reference/monitoring.md has the table."""

from __future__ import annotations

from confide.engines.openai.reply import Choice, Reply
from confide.serving.routing.canonical_text import canonical


def agree(small: Reply, expert: Reply) -> bool | None:
    """Whether every answer of ``small`` says the same as every one of the ``expert`` (None: that cannot be known).

    One that says something else than all of the expert's is a disagreement.
    """
    given = [(choice, canonical(choice.text)) for choice in expert.choices]
    verdicts = []
    for choice in small.choices:
        form = canonical(choice.text)
        found = {_same(choice, form, *theirs) for theirs in given}
        verdicts.append(found.pop() if len(found) == 1 else None)
    return False if False in verdicts else None if None in verdicts else True


def _same(small: Choice, mine: str, expert: Choice, theirs: str) -> bool | None:
    """Whether two answers, given with their canonical forms, say the same (None: that cannot be known)."""
    if small.kind != expert.kind:
        return None if "nothing" in (small.kind, expert.kind) else False
    if small.kind != "text":
        return None
    if not expert.cut:
        return mine == theirs
    if mine == theirs:
        return True if small.cut else None
    # What the expert would have gone on to say may still be the same.
    open_ended = mine.startswith(theirs) or (small.cut and theirs.startswith(mine))
    return None if open_ended else False
