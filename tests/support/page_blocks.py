"""The code blocks of a Markdown page, and what the page tells its test about them.

A page speaks to its test in comments that a reader does not see:

    <!-- test: --limit 1500 -> --limit 120 -->       in all blocks of the page, the left text becomes the right one
    <!-- test: skip, needs a GPU -->                 the next block is not run; the reason must be there
    <!-- test: exit 1, nothing can be promised -->   the next block ends with this code; the reason must be there
    <!-- test: output differs, fewer rows -->        the output shown next is not compared; the reason must be there
    <!-- test: starts from first-answer.md -->       the page goes on in the folder that another page leaves
    <!-- test: run -->                               a page outside the tutorials whose blocks are run, too

``{endpoint NAME}`` on the right of an arrow is the address of a stand-in for a server of the model NAME. A code may be
several: ``exit 0 or 3``. Ports are replaced by free ones, and routers stopped, without a word.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Kind = Literal["shell", "python", "file", "output", "other"]
SHELLS = {"bash", "sh", "shell", "console"}
COMMANDS = ("confide", "pip", "make", "curl", ".venv/bin/confide")
"""First words that make a block without a language one of commands."""

_PIECE = re.compile(
    r"(?P<indent>^[ ]*)(?P<fence>```+|~~~+)(?P<info>[^\n]*)\n(?P<body>.*?)^[ ]*(?P=fence)[ ]*$"
    r"|<!-- test: (?P<told>.*?) -->",
    re.MULTILINE | re.DOTALL,
)


class PageError(Exception):
    """What a page tells its test cannot be meant."""


@dataclass
class Block:
    """One block: its text, the line at which it starts, and what the page says of it."""

    kind: Kind
    text: str
    line: int
    name: str = ""
    language: str = ""
    skip: str = ""
    exit_codes: tuple[int, ...] = (0,)
    compared: bool = True


@dataclass
class Page:
    """A page's blocks in their order, its substitutions, and the page in whose folder it starts."""

    path: Path
    blocks: list[Block] = field(default_factory=list)
    changes: dict[str, str] = field(default_factory=dict)
    starts_from: Path | None = None
    marked: bool = False

    def changed(self, text: str) -> str:
        """A block's text with all substitutions made."""
        for old, new in self.changes.items():
            text = text.replace(old, new)
        return text


def read_page(path: Path) -> Page:
    """Read a page's blocks.

    Raises:
        PageError: a comment to the test that nobody understands, that lacks its reason, or that changes nothing.
    """
    text = path.read_text(encoding="utf-8")
    page = Page(path)
    waiting: dict[str, str] = {}
    for found in _PIECE.finditer(text):
        line = text.count("\n", 0, found.start()) + 1
        if told := found["told"]:
            _tell(page, told, waiting, f"{path.name}:{line}")
        else:
            page.blocks += _blocks(found, line, waiting)
            waiting.clear()
    if waiting:
        raise PageError(f"{path.name}: no block follows {sorted(waiting)}")
    everything = "\n".join(block.text for block in page.blocks)
    if unused := [old for old in page.changes if old not in everything]:
        raise PageError(f"{path.name}: no block holds {unused[0]!r}, which the page replaces")
    return page


def _tell(page: Page, told: str, waiting: dict[str, str], where: str) -> None:
    """Take one comment to the test."""
    word, _, reason = told.partition(", ")
    if " -> " in told:
        old, _, new = told.partition(" -> ")
        page.changes[old] = new
    elif told.startswith("starts from "):
        page.starts_from = (page.path.parent / told.removeprefix("starts from ")).resolve()
    elif told == "run":
        page.marked = True
    elif word == "skip" or word == "output differs" or re.fullmatch(r"exit \d+( or \d+)*", word):
        if not reason.strip():
            raise PageError(f"{where}: {told!r} gives no reason; write: {word}, WHY")
        waiting[word] = reason.strip()
    else:
        raise PageError(f"{where}: what does {told!r} ask for?")


def _blocks(found: re.Match[str], line: int, waiting: dict[str, str]) -> list[Block]:
    """The blocks of one fence: of a console its commands, and what it shows as their output."""
    body = "".join(row.removeprefix(found["indent"]) for row in found["body"].splitlines(keepends=True))
    info = found["info"].strip()
    language = info.split()[0] if info else ""
    title = re.search(r'title="([^"]+)"', info)
    codes = next((tuple(map(int, re.findall(r"\d+", word))) for word in waiting if word.startswith("exit ")), (0,))
    compared = "output differs" not in waiting
    about = {
        "line": line,
        "language": language,
        "skip": waiting.get("skip", ""),
        "exit_codes": codes,
        "compared": compared,
    }
    if title:
        return [Block("file", body, name=title[1], **about)]  # type: ignore[arg-type]
    if language == "console":
        return [Block(kind, text, **about) for kind, text in _console(body)]  # type: ignore[arg-type]
    if language in SHELLS or (not language and body.split(maxsplit=1)[:1] and body.split()[0] in COMMANDS):
        return [Block("shell", body, **about)]  # type: ignore[arg-type]
    kind: Kind = "python" if language == "python" else "output" if language == "text" else "other"
    return [Block(kind, body, **about)]  # type: ignore[arg-type]


def _console(body: str) -> list[tuple[Kind, str]]:
    """Lines behind ``$ `` are commands, which go on behind a backslash; all others are output."""
    parts: list[tuple[Kind, str]] = []
    goes_on = False
    for line in body.splitlines(keepends=True):
        command = goes_on or line.startswith("$ ")
        kind: Kind = "shell" if command else "output"
        goes_on = command and line.rstrip().endswith("\\")
        text = line.removeprefix("$ ") if command else line
        if parts and parts[-1][0] == kind:
            parts[-1] = (kind, parts[-1][1] + text)
        else:
            parts.append((kind, text))
    return [part for part in parts if part[1].strip()]
