"""Results and records in, one self-contained HTML page out."""

from confide.report.page import render

__all__ = ["render"]
