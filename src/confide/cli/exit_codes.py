"""Exit codes: the same table for all verbs."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What a run of a verb came to; ``meaning`` says it in words."""

    meaning: str

    def __new__(cls, value: int, meaning: str) -> ExitCode:
        """A code with its meaning."""
        code = int.__new__(cls, value)
        code._value_ = value
        code.meaning = meaning
        return code

    @classmethod
    def listed(cls) -> str:
        """The whole table in Markdown, a line for each code."""
        return "\n".join(f"- **{int(code)}** {code.meaning}" for code in cls)

    DONE = 0, "Done, and what was asked holds."
    NO = 1, "Checked, and the answer is no: `validate`: the promise does not hold; `calibrate`: the goal cannot be met."
    BAD_INPUT = 2, "Bad input, a missing package, or a file that cannot be read or written: one sentence says which."
    CANNOT_SAY = 3, "Checked, and the rows cannot say (`validate`)."
    LEFT_OUT = 4, "Done, but something was left out: standard error counts and names it."
    FAULT = 70, "A fault of confide itself: the traceback is on standard error."
    INTERRUPTED = 130, "Interrupted by Ctrl-C."
    CLOSED_PIPE = 141, "Whoever read the output has closed the pipe."
    TERMINATED = 143, "Stopped by SIGTERM."
