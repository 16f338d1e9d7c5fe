"""``confide export``: a trained folder as an ordinary checkpoint, and what a server's client must know to read it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from confide.engines.openai.exported_reader import FILE as READER
from confide.engines.openai.exported_reader import FOLDER, Example, ExportedReader
from confide.errors import ConfideError
from confide.files import locked, read_text, write_text, written_folder
from confide.methods.catalogue import model_kind
from confide.methods.checkpoint import FILE, read_info
from confide.methods.confidence_model import ConfidenceModel
from confide.methods.frozen.frozen_model import FrozenModel
from confide.methods.reader.reader import FOLDER as ADAPTER
from confide.report_tokens import GRADED

_ANSWERS = ("France", "I do not know.", "Lyon is a large city, and it lies in the country of France.")
_QUESTION = "In which country is Lyon?"


def export_checkpoint(folder: Path, out: Path) -> dict[str, int]:
    """Copy a trained folder as an ordinary checkpoint that loads without confide.

    Where it has a reader, ``confide/reader.json`` says how a server that runs the checkpoint is asked for it
    (`ExportedReader`), and the adapter lies in ``adapter``, for a server to load under a name of its own.

    Returns:
        The new tokens' names and ids.

    Raises:
        ConfideError: ``folder`` was not trained by confide, or ``out`` is not empty.
    """
    info = read_info(folder)
    if not info.trained:
        raise ConfideError(f"{folder} was not trained by confide: it has no {FILE}")
    if out.exists() and any(out.iterdir()):
        raise ConfideError(f"{out} is not empty")
    config = json.loads(read_text(folder / "config.json"))
    # The weights keep the type that they have: a reader is read from small differences.
    dtype = config.get("dtype") or config.get("torch_dtype")
    model = model_kind(info.confidence.method).load(str(folder), info, dtype=dtype)
    reader = exported_reader(model)
    public = {"schema", "base_model", "versions", "signals"}
    data = {key: value for key, value in json.loads(read_text(folder / FILE)).items() if key in public}
    with locked(out), written_folder(out, FILE) as part:
        model.engine.save(part)
        if reader is not None:
            shutil.copytree(folder / ADAPTER, part / ADAPTER)
            (part / FOLDER).mkdir()
            write_text(part / FOLDER / READER, json.dumps(reader.to_json(), indent=1) + "\n")
        write_text(part / FILE, json.dumps(data, indent=1) + "\n")
    signal = info.confidence
    return signal.verdict_ids | dict(zip(GRADED, signal.grade_ids, strict=False))


def exported_reader(model: ConfidenceModel) -> ExportedReader | None:
    """What a server's client must know of a model's reader.

    None where there is none, and for one that was trained on shuffled labels: a control is not served.
    """
    if not isinstance(model, FrozenModel) or model.parts.reader is None or model.info.shuffled_labels is not None:
        return None
    engine, reader = model.engine, model.parts.reader
    prompt = engine.encode(model.as_asked(_QUESTION))
    answers = [engine.encode_answer(answer) for answer in _ANSWERS]
    logits = reader.logits(engine.closed([prompt] * len(answers), answers)).tolist()
    return ExportedReader(
        *reader.verdict,
        engine.turn_end,
        frozenset(engine.end_ids),
        model.identity,
        model.names[0],
        tuple(Example((*prompt, *answer), z) for answer, z in zip(answers, logits, strict=True)),
    )
