"""What an expert is asked in an audit: the conversation, without what could make it refuse and changes no answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from confide.engines.openai.asked import Asked
from confide.policies.requests import telling_options

# What a server needs of a message to read the conversation.
_OF_MESSAGES = ("role", "content", "name", "tool_calls", "tool_call_id", "function_call", "refusal")
_LIMITS = ("max_completion_tokens", "max_tokens")


def audit_request(asked: Asked, deadline: float) -> Asked:
    """``asked`` for an audit, until ``deadline``.

    Whoever asks could otherwise add an option that the small server takes and the expert refuses, and leave the audit
    without a label. Options that bear on the answer stay: a request that has them is unlike plain ones, and marked. Of
    two limits on the answer one stays, since servers refuse both at once.
    """
    options = telling_options(asked.options)
    limit = next((name for name in _LIMITS if name in asked.options), None)
    if limit is not None:
        options[limit] = asked.max_tokens
    return replace(asked, deadline=deadline, options=options, messages=[_bare(message) for message in asked.messages])


def _bare(message: dict[str, Any]) -> dict[str, Any]:
    bare = {key: message[key] for key in _OF_MESSAGES if key in message}
    if isinstance(content := bare.get("content"), list):
        bare["content"] = [
            {"type": "text", "text": part.get("text") or ""} if part.get("type") == "text" else part for part in content
        ]
    return bare
