"""Conversations: questions that are asked in several turns, with a system prompt, passages or earlier answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, Field, ValidationError

from confide.data_files import json_value
from confide.errors import ConfideError
from confide.files import read_text
from confide.records import Message

ROLES = ("system", "user", "assistant", "tool")
"""Who may speak."""


class _Conversation(BaseModel):
    messages: list[Message] = Field(min_length=1)


def check_conversation(messages: Sequence[Message]) -> None:
    """Raise `ValueError` for turns that ask nothing: somebody else speaks, or the last turn is no text of the user."""
    for number, turn in enumerate(messages, 1):
        if turn.role not in ROLES:
            raise ValueError(f"messages: turn {number} has the role {turn.role!r}; there is {', '.join(ROLES)}")
    if messages[-1].role != "user":
        raise ValueError(f"messages: the last turn is to be the user's, who asks; it is the {messages[-1].role}'s")
    if not messages[-1].content.strip():
        raise ValueError("messages: the last turn is empty")


def problem_of(error: ValidationError) -> str:
    """The first thing that is wrong with a row: its key, of a conversation the turn too, and why."""
    problem = error.errors()[0]
    place = list(problem["loc"])
    if place[:1] == ["messages"] and len(place) > 1:
        place[1] = f"turn {int(place[1]) + 1}"
    else:
        del place[1:]
    return "".join(f"{part}: " for part in place) + problem["msg"].removeprefix("Value error, ")


def read_conversation(path: Path) -> list[Message]:
    """The turns in a JSON file, a list or an object with ``messages``; raises `ConfideError` for what asks nothing."""
    try:
        value = json_value(read_text(path))
        found = value if isinstance(value, dict) else {"messages": value}
        messages = _Conversation.model_validate(found).messages
        check_conversation(messages)
    except ValidationError as error:
        raise ConfideError(f"{path}: {problem_of(error)}") from None
    except ValueError as error:
        raise ConfideError(f"{path}: {error}") from None
    return messages
