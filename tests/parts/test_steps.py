"""Lines and reasoning steps."""

from __future__ import annotations

from confide.parts.steps import line_parts, step_parts


def test_lines_are_numbered_without_blank_ones() -> None:
    text = " 1 + 1 = 2\n\n  so 2 \n"
    parts = line_parts(text)
    assert [(part.name, part.text) for part in parts] == [("line 1", "1 + 1 = 2"), ("line 2", "so 2")]
    assert [text[part.start : part.end] for part in parts] == ["1 + 1 = 2", "so 2"]


def test_steps_are_lines_or_the_sentences_of_a_single_one() -> None:
    assert [part.name for part in step_parts("a. b.\nc.")] == ["step 1", "step 2"]
    assert [part.text for part in step_parts("It is 3. So it is odd.\n")] == ["It is 3.", "So it is odd."]
    assert step_parts(" \n ") == []
