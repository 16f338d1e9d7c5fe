"""Reasoning text told apart from the answer, in one piece or in many."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.engines.reasoning import ReasoningSplitter, split_reasoning


@pytest.mark.parametrize(
    ("content", "reasoning", "answer"),
    [
        ("Japan", None, "Japan"),
        ("<think>\nhm\n</think>\n\nJapan", "hm", "Japan"),
        ("  <think></think>Japan", "", "Japan"),
        ("<think>cut off", "cut off", ""),
        ("hm</think>Japan", "hm", "Japan"),
        ("hm\n</think>\n\nJapan", "hm", "Japan"),
        ("hm </think>\nJapan", "hm", "Japan"),
        ('It says "Japan"</think>Japan', 'It says "Japan"', "Japan"),
        ("So 'Japan'.</think>'Japan'", "So 'Japan'.", "'Japan'"),
        ("„Japan.“</think>Japan", "„Japan.“", "Japan"),
        ("`Japan`</think>`Japan`", "`Japan`", "`Japan`"),
        ("`x` or y?\n[/THINK]Japan", "`x` or y?", "Japan"),
        ("It is quoted: `</think>`. So...\n</think>\n\nThe tag `</think>`.",
         "It is quoted: `</think>`. So...", "The tag `</think>`."),
        ("hm\n</think>\n\nIt writes </think> last.", "hm", "It writes </think> last."),
        ("hm</think>", "hm", ""),
    ],
)  # fmt: skip
def test_reasoning_is_split_off(content: str, reasoning: str | None, answer: str) -> None:
    assert split_reasoning(content) == (reasoning, answer)


@pytest.mark.parametrize(
    "answer",
    [
        "a <think> inside",
        "Models end what they think with </think> and then answer.",
        "The tag is `</think>`.",
        'text.split("</think>")[-1]',
        "re.sub('</think>', '', text)",
        "It (</think>) ends it",
        'tags = ["<b>","</think>"]',
        "end='</think>'",
        'He says:"</think> ends it".',
        "Write <think>\nso\n</think>\nin front.",
        "```xml\n<think>hello</think>\n```\nis the form.",
        "```\n</think>\n```",
        'Magistral has [/THINK] instead, "</seed:think>" is Seed\'s.',
    ],
)
def test_a_tag_that_is_only_mentioned_cuts_nothing(answer: str) -> None:
    assert split_reasoning(answer) == (None, answer)
    assert split_reasoning(f"<think>hm</think>\n{answer}") == ("hm", answer)


@given(
    st.text("a< /think>\n", max_size=30),
    st.text("b< think>", max_size=30),
    st.booleans(),
    st.lists(st.integers(1, 9), max_size=30),
)
def test_a_stream_is_split_like_the_whole(thought: str, answer: str, thinks: bool, sizes: list[int]) -> None:
    content = f"<think>{thought}</think>{answer}" if thinks else f"x{answer}"
    splitter, at, found = ReasoningSplitter(), 0, []
    for size in [*sizes, len(content)]:
        found += splitter.feed(content[at : at + size])
        at += size
    found += splitter.finish()
    whole = split_reasoning(content)
    assert "".join(piece for reasoning, piece in found if not reasoning) == whole[1]
    assert "".join(piece for reasoning, piece in found if reasoning).strip() == (whole[0] or "")
