"""Answers that other tools have logged, as records."""

from confide.imports.logged_rows import Imported
from confide.imports.logs import import_log

__all__ = ["Imported", "import_log"]
