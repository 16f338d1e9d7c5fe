import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.report.charts import Chart, TimeLine, moment, round_ticks, time_chart, time_labels
from confide.report.templating import percent


def test_places():
    chart = Chart((0, 2), (10, 20))
    assert (chart.x(0), chart.x(2)) == (chart.left, chart.right)
    assert (chart.y(10), chart.y(20)) == (chart.bottom, chart.top)
    assert chart.x(1) == (chart.left + chart.right) / 2
    assert chart.x(5) == chart.right  # drawn at the edge


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_are_round_and_inside(low, width):
    ticks = round_ticks(low, low + width)
    assert all(low - 1e-6 * width <= t <= low + width + 1e-6 * width for t in ticks)
    assert 1 <= len(ticks) <= 12


@pytest.mark.parametrize(
    ("low", "high", "expected"), [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (0.5, 1, [0.5, 0.6, 0.7, 0.8, 0.9, 1])]
)
def test_ticks(low, high, expected):
    assert round_ticks(low, high) == pytest.approx(expected)


def test_it_is_xml_and_escapes():
    chart = Chart()
    hostile = "<script>alert(1)</script>\"'&\x00"
    chart.x_axis(hostile)
    chart.y_axis(hostile)
    chart.curve([0, 1], [0, 1], "curve main", hostile, source=3)
    chart.bar((0, 0.5), (0, 0.5), "right", hostile)
    chart.dot(0.5, 0.5, "main", hostile)
    chart.text(1, 1, hostile, "name")
    svg = str(chart.svg(hostile))
    root = ElementTree.fromstring(svg)
    assert root.get("role") == "img"
    assert root.get("aria-label").startswith("<script>alert(1)")
    assert not [e for e in root.iter() if e.tag == "script"]
    assert re.search(r'<path class="curve main" data-source="3" d="M46\.0 210\.0L362\.0 14\.0">', svg)


def points(svg: str) -> list[tuple[float, float]]:
    found = re.search(r'<path class="curve main" d="M([^"]*)"', svg)
    assert found is not None
    return [(float(x), float(y)) for x, y in (pair.split(" ") for pair in found[1].split("L"))]


def test_a_line_goes_where_its_values_are() -> None:
    svg = str(time_chart([TimeLine([0, 50, 100], [0, 0.25, 0.5])], label="a < b", form=percent, maximum=1.0))
    (x0, y0), (x1, y1), (x2, y2) = points(svg)
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert y0 - y1 == pytest.approx(y1 - y2, abs=0.2)
    assert y0 > y2
    assert 'aria-label="a &lt; b"' in svg
    assert re.findall(r">([^<]*%)<", svg) == ["0%", "20%", "40%", "60%"]


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30),
    st.lists(st.floats(0, 2e9), min_size=30, max_size=30),
    st.booleans(),
)
def test_every_point_lies_inside_the_picture(values: list[float], times: list[float], zero: bool) -> None:
    times = sorted(times)[: len(values)]
    line = TimeLine(times, values, lower=[v - 1 for v in values], upper=[v + 1 for v in values])
    svg = str(time_chart([line], label="x", form="{:g}".format, level=(0.5, "<w>"), from_zero=zero))
    places = [pair for d in re.findall(r' d="M([^"HV]*?)Z?"', svg) for pair in d.split("L")]
    places += re.findall(r'cx="(\S+)" cy="(\S+)"', svg)
    assert places
    for place in places:
        x, y = place.split(" ") if isinstance(place, str) else place
        assert 0 <= float(x) <= 440
        assert 0 <= float(y) <= 210
    assert "nan" not in svg
    assert "<w>" not in svg


def test_a_time_is_as_short_as_its_axis_allows() -> None:
    now = 1_700_500_000.0
    assert [moment(now, span) for span in (3600, 2 * 86_400, 9 * 86_400)] == ["17:06", "20 Nov 17:06", "20 Nov"]


@given(st.floats(0, 2e9), st.one_of(st.just(0.0), st.floats(0.001, 3e9)))
def test_no_time_stands_twice(first: float, span: float) -> None:
    words = [text for _, _, text in time_labels(first, first + span)]
    assert 1 <= len(words) == len(set(words)) <= 3


def test_times_of_seconds_and_of_years() -> None:
    now = 1_700_500_000.0
    assert [text for *_, text in time_labels(now, now)] == ["17:06:40"]
    assert [text for *_, text in time_labels(now, now + 40)] == ["17:06:40", "17:07:00", "17:07:20"]
    assert [text for *_, text in time_labels(now, now + 1)] == ["17:06:40", "17:06:41"]
    assert moment(now, 3 * 365 * 86_400) == "Nov 2023"
