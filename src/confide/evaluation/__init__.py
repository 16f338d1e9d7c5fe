"""Evaluation: from records to results.json, with controls that can fail; without torch."""

from confide.evaluation.agreement import judge_faithfulness
from confide.evaluation.evaluation import evaluate

__all__ = ["evaluate", "judge_faithfulness"]
