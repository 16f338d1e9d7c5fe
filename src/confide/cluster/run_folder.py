"""The folder of a run on a cluster: what was done with which settings, and a file for every block."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confide.errors import ConfideError
from confide.files import check_folder, read_text, write_text
from confide.settings import check_settings

FILE = "_run.json"
"""Readers of Parquet folders pass over names that start so."""


@dataclass(frozen=True)
class RunFolder:
    """A folder that workers write to, so that all machines must see it under the same path."""

    path: Path

    @property
    def records(self) -> list[Path]:
        """The files of records, in the order of their blocks."""
        return sorted(self.path.glob("*.parquet"))

    def known(self) -> dict[str, Any]:
        """What the folder was made with; {} for a new one.

        Raises:
            ConfideError: the folder holds files of somebody else, or cannot be written.
        """
        check_folder(self.path)
        if not (self.path / FILE).exists():
            if self.path.is_dir() and any(not path.name.startswith(".") for path in self.path.iterdir()):
                raise ConfideError(f"{self.path} holds files that are none of such a run: choose an empty folder")
            return {}
        try:
            known: dict[str, Any] = json.loads(read_text(self.path / FILE))
        except ValueError:
            raise ConfideError(f"{self.path / FILE} is not readable: choose another folder") from None
        return known

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Write down ``settings``; raises `ConfideError` where the folder was made with others."""
        if known := self.known():
            check_settings(str(self.path), known, settings)
        else:
            write_text(self.path / FILE, json.dumps(settings, indent=1) + "\n")
