"""Training on a frozen model: whose answers it takes, what it refuses, and what a checkpoint needs."""

from __future__ import annotations

import json
import re
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import confide
from confide.errors import ConfideError
from confide.methods.catalogue import available
from confide.methods.checkpoint import FILE, read_info
from confide.methods.frozen.frozen_model import ARRAYS, FrozenParts, load_parts
from confide.methods.frozen.frozen_options import FrozenOptions
from confide.methods.frozen.frozen_training import train_confidence
from confide.methods.method import Scope, check_answered_by
from confide.methods.portable.portable_file import PortableFile
from confide.methods.scoring import score
from confide.methods.stack.states import collect_states
from confide.records import Record
from scored_model import engine, records, trained


def parts(folder: Path) -> FrozenParts:
    return load_parts(folder, read_info(folder))


def right(rows: list[Record]) -> np.ndarray:  # type: ignore[type-arg]
    return np.array([bool(r.correct) for r in rows])


def test_a_checkpoint_says_that_its_labels_were_shuffled(tmp_path: Path) -> None:
    control = confide.load(trained(tmp_path / "out", records(100), shuffle_labels=True))
    assert control.named("probe@closing") == "probe@closing_shuffled_labels_0"
    assert confide.load(trained(tmp_path / "plain", records(100))).named("stack") == "stack"


def test_training_on_another_models_answers_is_asked_for() -> None:
    rows = [r.model_copy(update={"model": "big"}) for r in records(20)]
    check_answered_by(rows, ["tiny", "big"], ["weights=ab"])
    with pytest.raises(ConfideError, match="20 of 20 records were answered by big, not by tiny"):
        check_answered_by(rows, ["tiny"], ["weights=ab"])


@pytest.mark.parametrize(
    ("model", "identity", "fits"),
    [
        ("tiny", "weights=ab", True),
        ("./tiny/", "weights=ab", True),  # another spelling of the same weights
        ("tiny", "weights=cd", False),  # other weights under the name
        ("tiny", "", True),  # does not say: the name decides
        ("big", "", False),
        ("", "", True),
        ("big", "our model, v2", False),
        ("tiny", "our model, v2", True),
    ],
)
def test_weights_decide_before_names(model: str, identity: str, fits: bool) -> None:
    rows = [r.model_copy(update={"model": model, "identity": identity}) for r in records(3)]
    who = re.escape(f"answered by {model}{f' ({identity})' * bool(identity)}, not by tiny (weights=ab)")
    with nullcontext() if fits else pytest.raises(ConfideError, match=who):
        check_answered_by(rows, ["tiny"], ["weights=ab"])
    # Where what the model was trained on is not known, the name decides about other weights, too.
    check_answered_by(
        [r.model_copy(update={"identity": "weights=cd"}) for r in records(3)], ["tiny"], ["weights=ab", ""]
    )


def test_another_models_answers_are_scored_by_this_model_before_training(tmp_path: Path) -> None:
    rows = records(100)
    foreign = [r.model_copy(update={"model": "big", "logprobs": [-9.0]}) for r in rows]
    with pytest.raises(ConfideError, match="answered by big"):
        trained(tmp_path / "refused", foreign)
    own = parts(trained(tmp_path / "a", foreign, other_model=True)).stack
    clean = [r.model_copy(update={"model": "big", "logprobs": [-0.5]}) for r in rows]
    same = parts(trained(tmp_path / "b", clean, other_model=True)).stack
    assert own is not None
    assert same is not None
    np.testing.assert_allclose(own.ungated.weight, same.ungated.weight, atol=1e-6)  # their scores were not used


def test_what_another_models_answers_taught_is_no_portable_confidence_of_either(tmp_path: Path) -> None:
    rows = records(100)
    foreign = [r.model_copy(update={"model": "big", "identity": "weights=cd34"}) for r in rows]
    folder = trained(tmp_path / "out", foreign, other_model=True)
    with pytest.raises(ConfideError, match="answers of big with the log-probabilities of tiny"):
        PortableFile.load(folder)
    model = confide.load(folder, dtype="float32")
    assert "portable" not in model.answer("Where?").sources
    own = [r.model_copy(update={"identity": model.engine.identity}) for r in rows]
    wanted = available(Scope(own, model), slow=False)
    assert "portable" not in wanted
    assert score(own, ["stack"], model=model)[-1].confidence["stack"] is not None


def test_rows_that_do_not_fit_are_refused_before_any_pass(tmp_path: Path) -> None:
    tiny = engine()
    rows = records(20)
    long = rows[0].model_copy(update={"answer": "red " * 300})
    with pytest.raises(ConfideError, match="1 rows do not fit the model's context of 256 tokens: 0"):
        train_confidence(tiny, [long, *rows[1:]], rows[1:], FrozenOptions(), tmp_path / "out")


def test_a_checkpoint_needs_no_probes_but_a_stack_of_this_version(tmp_path: Path) -> None:
    folder = trained(tmp_path / "out", records(100), positions=True)
    checkpoint = parts(folder)
    assert {"probe", "probe@closing"} < set(checkpoint.probes)
    about = json.loads((folder / FILE).read_text())
    del about["probes"]
    (folder / FILE).write_text(json.dumps(about))
    arrays = load_file(folder / ARRAYS)
    save_file({name: value for name, value in arrays.items() if "/" not in name}, folder / ARRAYS)
    bare = parts(folder)
    assert not bare.probes
    assert bare.stack is not None
    rows = records(20)
    states = collect_states(engine(), rows, checkpoint.layers)
    assert checkpoint.stack is not None
    read = bare.stack.read(states, rows)
    np.testing.assert_allclose(read["stack"], checkpoint.stack.read(states, rows)["stack"])
    assert "probe" in read
    del about["stack"]["mixture"]
    (folder / FILE).write_text(json.dumps(about))
    with pytest.raises(ConfideError, match="earlier version of confide: train it again"):
        parts(folder)
