import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.report.svg import Plot, nice_ticks


def test_places():
    plot = Plot((0, 2), (10, 20))
    assert (plot.x(0), plot.x(2)) == (plot.left, plot.right)
    assert (plot.y(10), plot.y(20)) == (plot.bottom, plot.top)
    assert plot.x(1) == (plot.left + plot.right) / 2
    assert plot.x(5) == plot.right  # drawn at the edge


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_are_round_and_inside(low, width):
    ticks = nice_ticks(low, low + width)
    assert all(low - 1e-6 * width <= t <= low + width + 1e-6 * width for t in ticks)
    assert 1 <= len(ticks) <= 12


@pytest.mark.parametrize(
    ("low", "high", "expected"), [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (0.5, 1, [0.5, 0.6, 0.7, 0.8, 0.9, 1])]
)
def test_ticks(low, high, expected):
    assert nice_ticks(low, high) == pytest.approx(expected)


def test_it_is_xml_and_escapes():
    plot = Plot()
    hostile = "<script>alert(1)</script>\"'&\x00"
    plot.x_axis(hostile)
    plot.y_axis(hostile)
    plot.curve([0, 1], [0, 1], "curve main", hostile, source=3)
    plot.bar((0, 0.5), (0, 0.5), "right", hostile)
    plot.dot(0.5, 0.5, "main", hostile)
    plot.text(1, 1, hostile, "name")
    svg = str(plot.svg(hostile))
    root = ElementTree.fromstring(svg)
    assert root.get("role") == "img"
    assert root.get("aria-label").startswith("<script>alert(1)")
    assert not [e for e in root.iter() if e.tag == "script"]
    assert re.search(r'<path class="curve main" data-source="3" d="M46\.0 210\.0L362\.0 14\.0">', svg)
