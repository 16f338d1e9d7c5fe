"""Annotation: a model answers a task's questions and the grader marks the answers.

Batches are fixed by the questions alone (sorted by length), and a batch that a killed run left unfinished is
answered again as a whole, so that a continued run ends with the same answers as an unbroken one.
"""

from confide.annotation.annotation_run import annotate, answered_records
from confide.annotation.question_splits import SHARES, split_questions

__all__ = ["SHARES", "annotate", "answered_records", "split_questions"]
