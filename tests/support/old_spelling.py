"""Pages are written in the new spelling; this is for a command line that knows only the old one, and goes with it."""

from __future__ import annotations

import importlib.util


def as_known(arguments: list[str]) -> list[str]:
    """A command's arguments as the command line here takes them."""
    if importlib.util.find_spec("confide.cli.old_spellings") or arguments[:1] not in (["score"], ["hedge"], ["train"]):
        return arguments
    verb = 2 if arguments[0] == "train" else 1
    given = arguments[verb : verb + 1]
    records = ["--records"] if given and not given[0].startswith("-") else []
    rest = ["--sources" if word == "--source" and arguments[0] == "score" else word for word in arguments[verb:]]
    return [*arguments[:verb], *records, *rest]
