"""Tools and passages that tests name in a configuration."""

from __future__ import annotations

from typing import Any


def look_up(messages: list[dict[str, Any]]) -> str | None:
    text = messages[-1]["content"]
    if text == "raise":
        raise RuntimeError(text)
    return "Japan, for sure" if "Kyoto" in text else None


def always(messages: list[dict[str, Any]]) -> str:
    return "Something"


def japan(messages: list[dict[str, Any]]) -> str:
    return "japan."


def passage(messages: list[dict[str, Any]]) -> str | None:
    text = messages[-1]["content"]
    return f"About {text}." if "Kyoto" in text else None
