"""Tasks: questions with references, how they are asked, and the grader that decides what is right."""

from __future__ import annotations

from confide.tasks.graders import Grade, Grader
from confide.tasks.questions import Question, read_questions
from confide.tasks.registry import available_tasks, load_task
from confide.tasks.task import Task

__all__ = [
    "Grade",
    "Grader",
    "Question",
    "Task",
    "available_tasks",
    "load_task",
    "read_questions",
]
