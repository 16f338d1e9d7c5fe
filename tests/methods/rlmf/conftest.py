from __future__ import annotations

from typing import Any

import pytest

from confide.methods.rlmf.format_stage import train_format
from stating_model import QUICK, saved, toy_splits, toy_task


@pytest.fixture(scope="session")
def formed(tmp_path_factory) -> tuple[Any, dict[str, Any]]:
    """The folder of a tiny model that has passed the format stage, and the stage's report."""
    folder = tmp_path_factory.mktemp("formed")
    report = train_format(saved(folder / "base"), toy_task(), *toy_splits(), QUICK, folder / "format")
    return folder, report
