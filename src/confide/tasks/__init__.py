"""Tasks: questions with references, how they are asked, and the grader that decides what is right."""

from __future__ import annotations

from confide.tasks.graders import Grade, Grader, grader_for
from confide.tasks.lookup import available_tasks, load_task
from confide.tasks.questions import Question, read_questions
from confide.tasks.task import Task

__all__ = [
    "Grade",
    "Grader",
    "Question",
    "Task",
    "available_tasks",
    "grader_for",
    "load_task",
    "read_questions",
]
