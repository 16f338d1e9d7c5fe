import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.sources import FAMILIES, Source, family, in_order

NAMES = {
    "probe@closing": Source("probe", "closing"),
    "probe@prompt_end_swapped": Source("probe", "prompt_end", swapped=True),
    "probe@answer_last_shuffled_labels_3": Source("probe", "answer_last", shuffled=True, seed=3),
    "other_probe": Source("probe", other=True),
    "other_probe@3_shuffled_labels_0_swapped": Source("probe", "3", other=True, shuffled=True, seed=0, swapped=True),
    "probe_shuffled_labels": Source("probe", shuffled=True),
    "reader_shuffled_labels_0_calibrated": Source("reader", shuffled=True, seed=0, calibrated=True),
    "option_probability_calibrated": Source("option_probability", calibrated=True),
    "stack_swapped": Source("stack", swapped=True),
    "probe_logprobs": Source("probe_logprobs"),
    "p_true:2": Source("p_true:2"),
    "answer_only_table": Source("answer_only_table"),
    "shuffled": Source("shuffled"),
    "my model": Source("my model"),
}
KNOWN = [name for names in FAMILIES.values() for name in names]


@pytest.mark.parametrize("name", NAMES)
def test_names_parse_and_print(name):
    assert Source.parse(name) == NAMES[name]
    assert str(NAMES[name]) == name


sources = st.builds(
    Source,
    st.sampled_from([*KNOWN, "probe_logprobs", "answer_only_table", "p_true:2", "mine"]),
    st.none() | st.sampled_from(["prompt_end", "answer_last", "closing", "turn_end", "3"]),
    other=st.booleans(),
    shuffled=st.just(True),
    seed=st.none() | st.integers(0, 100),
    swapped=st.booleans(),
    calibrated=st.booleans(),
)


@given(sources, st.booleans())
def test_every_source_is_what_its_name_says(source, shuffled):
    if not shuffled:
        source = Source(source.base, source.position, source.other, False, None, source.swapped, source.calibrated)
    assert Source.parse(str(source)) == source


pieces = st.sampled_from(
    ["other_", "@", "_shuffled_labels", "_0", "_07", "_swapped", "_calibrated", "probe", "x", "_", "\n"]
)


@given(st.text() | st.lists(pieces).map("".join))
def test_every_name_survives(name):
    assert str(Source.parse(name)) == name


def test_families_by_name():
    assert family("other_probe") == family("probe_shuffled_labels") == family("probe@3") == "control"
    assert family("stack") == "learned"
    assert family("probe_logprobs") == "learned"
    assert family("p_true:2") == "asked"
    assert family("option_probability") == family("option_probability_calibrated") == "free"
    assert family("logprob_summary") == "other"
    assert family("my model") == "other"
    assert in_order(["shuffled", "logprob_sum", "mine", "reader", "stack"]) == [
        "stack", "reader", "mine", "logprob_sum", "shuffled",
    ]  # fmt: skip


def test_what_competes_and_what_only_serves_a_comparison():
    assert Source("stack").competes
    assert Source("p_true", calibrated=True).competes
    assert not any(Source.parse(name).competes for name in ("entropy", "answer_only", "constant", "other_stack"))
    assert Source.parse("stack_swapped").auxiliary
    assert Source.parse("probe@3").auxiliary
    assert not Source.parse("other_probe").auxiliary
