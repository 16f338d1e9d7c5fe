"""What training leaves on disk beside an ordinary checkpoint: ``confide.json``, with one writer and one reader."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from confide.errors import ConfideError
from confide.files import read_text, write_text, written_folder
from confide.records import Record
from confide.signals import CONFIDENCE

FILE = "confide.json"


class SignalInfo(BaseModel):
    """How a model reports on one signal.

    Attributes:
        method: the kind of trained model: ``reader`` (a stack, with a reader or without), ``self_ref`` or ``stated``.
        verdict_ids: name → id of the two verdict tokens.
        statement: how a stated confidence is written: ``graded`` or ``tagged``.
        grade_ids: ids of the graded tokens, lowest first.
        reads_at: where the confidence is read, in words.
    """

    model_config = ConfigDict(extra="allow")

    method: str = ""
    verdict_ids: dict[str, int] = Field(default_factory=dict)
    statement: str | None = None
    grade_ids: list[int] = Field(default_factory=list)
    reads_at: str = ""

    @property
    def hashed(self) -> dict[str, Any]:
        """What counts where confidences are told apart, in the shape of earlier versions: what they wrote stays."""
        told = {"reads": None, "own_logits": None, "ask_tokens": 0, "ask_ids": [], **self.model_dump()}
        first = ("method", "reads", "own_logits", "ask_tokens", "verdict_ids", "ask_ids")
        return {name: told[name] for name in first} | told


class CheckpointInfo(BaseModel):
    """What ``confide.json`` says of a trained folder; all empty for a model that was never trained.

    Attributes:
        signals: signal → how the model reports on it.
        stack: what is saved of the stack beside its arrays.
        probes: source → what is saved of a probe beside its arrays.
        served: what is saved of the served stack beside its arrays.
        chat_template_kwargs: what the chat template was given besides the messages of training rows.
        reader: how a reader was trained; empty for none.
        prompts: the leading messages (system line, worked examples) that training rows carried.
        training_rows: how many rows trained, or how many of each label.
        shuffled_labels: the seed by which labels were shuffled: a control.
        versions: package → version that trained it.
    """

    model_config = ConfigDict(extra="allow", populate_by_name=True)

    schema_: int = Field(default=1, alias="schema")
    signals: dict[str, SignalInfo] = Field(default_factory=dict)
    stack: dict[str, Any] | None = None
    probes: dict[str, dict[str, Any]] = Field(default_factory=dict)
    served: dict[str, Any] | None = None
    versions: dict[str, str] = Field(default_factory=dict)
    base_model: str = ""
    base_sha256: str | None = None
    training_data_sha256: str | None = None
    training_rows: int | dict[str, int] | None = None
    reader: dict[str, Any] = Field(default_factory=dict)
    prompts: list[list[dict[str, str]]] = Field(default_factory=list)
    chat_template_kwargs: dict[str, Any] = Field(default_factory=dict)
    shuffled_labels: int | None = None
    training: dict[str, Any] = Field(default_factory=dict)

    @property
    def trained(self) -> bool:
        """Whether confide trained this model."""
        return bool(self.model_fields_set)

    @property
    def confidence(self) -> SignalInfo:
        """How the model reports its confidence."""
        return self.signals.get(CONFIDENCE.name) or SignalInfo()


def read_info(folder: Path) -> CheckpointInfo:
    """Read ``confide.json``; a folder without one holds a plain model.

    Raises `ConfideError` for a broken one, for one that earlier versions wrote and this one cannot read, and for a
    folder that training was killed in while it moved files there: it holds trained weights, and nothing that says so.
    """
    folder = folder.expanduser()
    path = folder / FILE
    if not path.exists():
        if (folder / ".saving").exists() or (folder / ".part" / FILE).exists():
            raise ConfideError(f"{folder} was not saved to its end: run its training again, which goes on from there")
        return CheckpointInfo()
    try:
        data = json.loads(read_text(path))
        if data.get("schema") != 1:
            raise ConfideError(f"{path} has schema {data.get('schema')!r}; this version reads schema 1")
        info = CheckpointInfo.model_validate(data)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise ConfideError(f"{folder} is not a readable confide checkpoint: {where}: {problem['msg']}") from None
    except (ValueError, AttributeError) as error:
        raise ConfideError(f"{folder} is not a readable confide checkpoint: {error}") from None
    if (info.confidence.model_extra or {}).get("reads"):
        raise ConfideError(
            f"{folder} has a reader of ask tokens, which an earlier version of confide trained and this one does not "
            "read: train it again with `confide train reader`"
        )
    return info


def save_checkpoint(
    folder: Path, save: Callable[[Path], None], info: CheckpointInfo, packages: Sequence[str] = ()
) -> None:
    """Write a checkpoint beside its place, then move it in; ``confide.json`` comes last, so a folder with it is whole.

    Where writing fails, a checkpoint that was there before stays.

    Args:
        save: writes model, tokenizer and what belongs to them to the folder it is given.
        packages: whose versions are noted beside those of torch and transformers.
    """
    versions = {name: version(name) for name in ("confide", "torch", "transformers", *packages)}
    data = {"schema": 1, **info.model_dump(by_alias=True, exclude_unset=True, mode="json")}
    with written_folder(folder, FILE) as part:
        save(part)
        write_text(part / FILE, json.dumps({"versions": versions} | data, ensure_ascii=False, indent=1) + "\n")


def leading_messages(records: Sequence[Record]) -> list[list[dict[str, str]]]:
    """The distinct messages before the questions' own, so that a bare question can be asked as training asked."""
    seen: dict[str, list[dict[str, str]]] = {}
    for record in records:
        leading = [message.model_dump() for message in record.messages[: -(record.own_turns or 1)]]
        if leading:
            seen.setdefault(json.dumps(leading, sort_keys=True), leading)
    return list(seen.values())[:64]


def common_chat_template_kwargs(records: Sequence[Record]) -> dict[str, Any]:
    """What most of the generated answers' prompts were given besides their messages: new questions are asked so."""
    counts = Counter(
        json.dumps(record.chat_template_kwargs, sort_keys=True) for record in records if record.option_logprobs is None
    )
    most: dict[str, Any] = json.loads(max(counts, key=lambda key: counts[key])) if counts else {}
    return most
