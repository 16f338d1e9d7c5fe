"""How a choice is asked when the likelihood of each option's text decides: without letters, after worked examples.

The options are not listed: with a list the bundled model does no better than guessing. Worked examples show that an
answer is a plain phrase; their form was chosen on ARC-Easy's training questions (see ``docs/tasks.md``).
"""

from __future__ import annotations

from confide.tasks.questions import Question

SYSTEM = "Answer the question."
EXAMPLES = (
    ("Which tool cuts wood?", "a saw"),
    ("Why do people wear coats in winter?", "A coat keeps the warmth of the body in."),
    ("Where do people keep milk fresh?", "in the refrigerator"),
    ("A person who repairs shoes is called a", "cobbler"),
    ("What happens when a glass falls on a stone floor?", "It breaks into pieces."),
)


def cloze_prompt(question: Question) -> list[dict[str, str]]:
    """The messages after which each option's text is measured."""
    turns = [turn for asked, answer in EXAMPLES for turn in (("user", _asked(asked)), ("assistant", answer))]
    messages = [("system", SYSTEM), *turns, ("user", _asked(question.question))]
    return [{"role": role, "content": content} for role, content in messages]


def _asked(text: str) -> str:
    return f"Question: {text}\nAnswer:"
