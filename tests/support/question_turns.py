"""Questions in several turns, as tests ask them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PASSAGE = "The river passes the city. " * 1900
"""50 kB."""

CALL = {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": '{"city": "Lyon"}'}}


def turn(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


ONE = [turn("user", "Where is Lyon?")]
FIVE = [
    turn("system", "Passage: Lyon lies where two rivers meet."),
    turn("user", "Do you know Lyon?"),
    turn("assistant", "I do."),
    turn("user", "And its rivers?"),
    turn("assistant", "Two of them."),
    turn("user", "Where is it?"),
]
LONG = [turn("system", PASSAGE), turn("user", "Where is it?")]
UNICODE = [turn("assistant", ""), turn("user", "Où est 東京 — 👍🏽\u2028؟")]
TOOL = [
    turn("user", "Where is Lyon?"),
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    turn("tool", "France", tool_call_id="c1"),
    turn("user", "In one word?"),
]
PARTS = [turn("user", [{"type": "text", "text": "Passage: Lyon."}, {"type": "text", "text": "Where is it?"}])]

CONVERSATIONS = {"one": ONE, "five": FIVE, "unicode": UNICODE, "tool": TOOL, "parts": PARTS}


def rows(count: int = 5, **more: Any) -> list[dict[str, Any]]:
    """Question rows of every shape in turn."""
    shapes = list(CONVERSATIONS.values())
    return [
        {"id": f"c{i}", "kind": "short", "messages": shapes[i % len(shapes)], "answer": ["France"], **more}
        for i in range(count)
    ]


def write(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path
