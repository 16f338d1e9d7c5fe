"""The code blocks of the how-to pages by language, and the `confide` commands in them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from page_blocks import read_page

ROOT = Path(__file__).parents[2]
HOW_TO = sorted((ROOT / "docs" / "how-to").glob("*.md"))


def fences(page: Path, language: str) -> list[str]:
    """The blocks of a page in one language, without their indent."""
    return [block.text for block in read_page(page).blocks if block.language == language]


def confide_commands(page: Path) -> list[list[str]]:
    """What stands behind ``confide`` in the shell blocks of a page, command by command."""
    commands = []
    for block in fences(page, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            for command in re.split(r"\s(?:\||&&)\s", line):
                words = shlex.split(command, comments=True)
                if "confide" in words:
                    commands.append(words[words.index("confide") + 1 :])
    return commands
