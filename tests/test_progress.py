"""Progress gives signs of life where there is no terminal: a line a tenth, and one after every silence."""

from __future__ import annotations

import pytest

from confide.progress import SILENCE_S, ProgressLines, progress_bar


class Clock:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def lines_of(clock: Clock) -> tuple[ProgressLines, list[str]]:
    written: list[str] = []
    return ProgressLines("reading", written.append, clock), written


def test_every_tenth_gets_one_line(clock: Clock) -> None:
    lines, written = lines_of(clock)
    for done in range(1, 1501):
        lines.update(done, 1500, "")
    assert len(written) == 10
    assert written[0] == "reading: 150 of 1500 (10%), 0 s"
    assert written[-1] == "reading: 1500 of 1500 (100%), 0 s"


def test_a_silence_gets_a_line_and_talk_gets_none(clock: Clock) -> None:
    lines, written = lines_of(clock)
    for second in range(1, 61):
        clock.now = second
        lines.beat()
    assert len(written) == 60 / SILENCE_S
    assert written[0] == "reading: 5 s"  # nothing is counted yet
    lines.update(50, 100, "7 a second")
    clock.now += SILENCE_S - 1
    lines.beat()
    assert written[-1] == "reading: 50 of 100 (50%), 60 s, 7 a second"
    clock.now += 1
    lines.beat()
    assert written[-1] == "reading: 50 of 100 (50%), 65 s, 7 a second"


def test_another_total_starts_over(clock: Clock) -> None:
    lines, written = lines_of(clock)
    for of in (10, 20):
        for done in range(1, of + 1):
            lines.update(done, of, "")
    assert len(written) == 20


def test_lines_go_to_standard_error_as_they_come(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("reading") as progress:
        progress(1, 2, "first")
        assert "1 of 2 (50%)" in capsys.readouterr().err
        progress(2, 2, "")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1


def test_an_error_ends_the_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="broken"), progress_bar("reading"):
        raise ValueError("broken")
    assert capsys.readouterr().err == ""
