"""The policy: what the source that decides does with an answer, and what it promises, in a JSON file to review."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError, model_validator

from confide.arguments import as_path
from confide.errors import ConfideError
from confide.files import read_text, write_text
from confide.hashing import sha256_of_text
from confide.numeric import Floats, Ints
from confide.policies.calibration_rows import confidences_of, seen_again
from confide.policies.goals import Per
from confide.policies.guarantees import AnyGuarantee, Promise, aim_of, explain_guarantee
from confide.policies.policy_part import Part
from confide.policies.profiles import Profile
from confide.records import Record, RecordTable

_KEYS = (
    "schema", "source", "scale", "calibrator", "thresholds", "guarantee", "data_sha256", "model", "last_resort",
    "profile", "rows_seen", "identity", "fallbacks",
)  # fmt: skip
"""The keys of a policy file, in the order in which it has always held them."""

_LATER = ("requests", "answered")
"""What a profile of before does not know."""


@dataclass(frozen=True)
class DecidedRows:
    """What decides on each of n rows, the confidence that it reads, and what it decides; all [n].

    ``part`` is a place in the order of sources, ``confidence`` raw and NaN where there is none, ``decision`` answer,
    escalate or abstain.
    """

    part: Ints
    confidence: Floats
    decision: NDArray[Any]

    def counts(self, sources: Sequence[str]) -> tuple[Counter[str], Counter[str]]:
        """How many rows have each decision, and how many each of the policy's ``sources`` decided."""
        deciding = self.part[np.isfinite(self.confidence)].tolist()
        return Counter(self.decision.tolist()), Counter(sources[place] for place in deciding)


class Policy(Part):
    """What to do with an answer, given the confidences of an order of sources.

    It is itself the part of the first source; ``fallbacks`` are those of the others. The first source that gives a
    confidence decides (`choose`), by its own part alone: `decide`, `probability` and `threshold` of a policy are those
    of its first source. Of the profile's features only confidences are a part's own.
    ``model`` names the model that answered the calibration rows.
    ``last_resort`` says what a router does with an escalated question when every expert failed: send the small
    model's answer marked as unverified, abstain, or send an error.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    guarantee: AnyGuarantee
    model: str = ""
    last_resort: Literal["unverified", "abstain", "error"] = "error"
    fallbacks: list[Part] = Field(default_factory=list)

    @model_validator(mode="after")
    def _is_one_promise(self) -> Self:
        if len({part.source for part in self.parts}) < len(self.parts):
            raise ValueError(f"a source may stand in the order once, got {', '.join(self.sources)}")
        for part in self.fallbacks:
            if part.guarantee is None and not part.keeps_nothing:
                raise ValueError(f"{part.source} promises nothing, so it may keep no answer")
            if part.guarantee is not None and aim_of(part.guarantee) != aim_of(self.guarantee):
                raise ValueError(f"{part.source} has another goal than {self.source}")
        if len({part.guarantee.per for part in self.parts if isinstance(part.guarantee, Promise)} - {None}) > 1:
            raise ValueError("one source promises per question and another per entity")
        return self

    @property
    def parts(self) -> list[Part]:
        """What each source of the order decides."""
        return [self, *self.fallbacks]

    @property
    def per(self) -> Per | None:
        """What counts alike in its promises (None: every calibration row was of an entity of its own)."""
        promises = [part.guarantee for part in self.parts if isinstance(part.guarantee, Promise)]
        return next((promise.per for promise in promises if promise.per is not None), None)

    @property
    def sources(self) -> list[str]:
        """The order of sources."""
        return [part.source for part in self.parts]

    def choose(self, confidences: Mapping[str, float | None]) -> Part:
        """The part of the first source with a finite number among these raw ``confidences``.

        It is that of the first source where none has one. Raises `ConfideError` as `own_scale` does.
        """
        for part in self.parts:
            own = part.own_scale(confidences.get(part.source))
            if own is not None and math.isfinite(own):
                return part
        return self

    def decided(self, records: Sequence[Record]) -> DecidedRows:
        """What each of ``records`` comes to; raises `ConfideError` for a confidence outside the range of its source."""
        table = RecordTable.of(records)
        part, confidence = np.zeros(len(table), dtype=np.int64), np.full(len(table), np.nan)
        decision, domains = self.decide_rows(confidence, table.coded("domain")), table.coded("domain")
        for place, one in enumerate(self.parts):
            values = confidences_of(one.in_range(table), one.source)
            new = np.isnan(confidence) & np.isfinite(values)
            part[new], confidence[new] = place, values[new]
            decision[new] = one.decide_rows(values[new], domains._replace(codes=domains.codes[new]))
        return DecidedRows(part, confidence, decision)

    def only(self, part: Part) -> Policy:
        """The policy in which a ``part`` of this one, which has a guarantee, decides alone."""
        own = {name: getattr(part, name) for name in Part.model_fields}
        return self.model_copy(update={**own, "fallbacks": []})

    def with_share_answered(self, records: Sequence[Record]) -> Policy:
        """This policy with the share of all ``records`` that it answers in its profile.

        A router does not know which of its requests the goal would leave out.
        """
        assert self.profile is not None
        answered = float((self.decided(records).decision == "answer").sum() / len(records))
        profile = self.profile.model_copy(update={"answered": answered})
        return self.model_copy(update={"profile": profile})

    def in_range(self, records: Sequence[Record]) -> RecordTable:
        """``records`` with confidences in the ranges of all sources; raises `ConfideError` for one outside."""
        found = super().in_range(records)
        for part in self.fallbacks:
            found = part.in_range(found)
        return found

    def used_before(self, records: Sequence[Record]) -> tuple[int, bool]:
        """How many of ``records`` were calibration rows of any part, and whether the count is complete."""
        seen = [seen_again(part.rows_seen, part.on_own_scale(records), part.source) for part in self.parts]
        again = sum(any(flags) for flags in zip(*(flags for flags, _ in seen), strict=True))
        return again, all(complete for _, complete in seen)

    @property
    def id(self) -> str:
        """A name that changes with anything in the policy: ``pol_`` and twelve hexadecimal digits."""
        canonical = json.dumps(self._data(), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return "pol_" + sha256_of_text(canonical)[:12]

    def to_json(self) -> str:
        """The policy file's text."""
        return json.dumps(self._data(), indent=2, ensure_ascii=False) + "\n"

    def _data(self) -> dict[str, Any]:
        """What a file holds; a policy that knows nothing of a later part reads, and is called, as before it."""
        written = self.model_dump(mode="json", by_alias=True)
        data = {key: written[key] for key in _KEYS if key in written}
        for part, own in zip(self.parts, [data, *data["fallbacks"]], strict=True):
            if not part.identity:
                del own["identity"]
            if own["profile"] is not None:
                optional = _LATER if part is self else Profile.model_fields
                own["profile"] = {k: v for k, v in own["profile"].items() if v is not None or k not in optional}
        if not self.fallbacks:
            del data["fallbacks"]
        return data

    def save(self, path: Path) -> None:
        """Write the policy to ``path``, whole or not at all."""
        write_text(as_path(path), self.to_json())

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a policy; `ConfideError` names the file and its first problem."""
        try:
            return cls.model_validate_json(read_text(as_path(path)))
        except ValidationError as error:
            problem = error.errors()[0]
            where = ".".join(str(part) for part in problem["loc"])
            message = problem["msg"].removeprefix("Value error, ")
            raise ConfideError(f"{path} is not a policy: {where + ': ' if where else ''}{message}") from None

    def explain(self) -> str:
        """The promise, the evidence and their limits, in a few sentences."""
        lines = []
        if self.fallbacks:
            order = ", then ".join(self.sources)
            lines.append(f"Order of sources: {order}. The first one that gives a confidence decides alone.")
        lines.append(f"Source: {self.source}{self.unit}" + (f", answers by {self.model}." if self.model else "."))
        if self.identity:
            lines.append(f"Made for {self.identity}.")
        lines += [*self.explain_rules(), self.about_units]
        if not self.fallbacks:
            lines.append("An answer without a confidence escalates.")
        lines += explain_guarantee(self.guarantee)
        for part in self.fallbacks:
            lines += self._explain_fallback(part)
        if self.fallbacks:
            lines += ["An answer without a confidence from any of them escalates.", *self._explain_order()]
        last = "the caller gets an error"
        if self.last_resort == "unverified":
            last = "the small model's answer is sent, marked as unverified"
        elif self.last_resort == "abstain":
            last = "nothing is claimed, as where the policy abstains"
        lines.append(f"When every expert fails, {last}.")
        return "\n".join(lines)

    def _explain_fallback(self, part: Part) -> list[str]:
        before = self.sources[: self.sources.index(part.source)]
        lines = [f"Source where {' and '.join(before)} give{'s' * (len(before) == 1)} none: {part.source}{part.unit}."]
        if part.identity != self.identity:
            lines.append(f"Made for {part.identity or 'weights that are not known'}.")
        lines += part.explain_rules()
        if part.guarantee is None:
            return [*lines, f"The calibration rows do not show the goal with {part.source}, so it keeps nothing."]
        return lines + explain_guarantee(part.guarantee)[:-1]  # the last line is about all of them

    def _explain_order(self) -> list[str]:
        if self.guarantee.goal == "cost":
            return []
        return [
            "Each promise is about its own source, as if that decided on every question drawn as its calibration rows "
            "were; all of them hold at once with the probability above. Which questions fall back is not chance, so "
            "nothing is promised beforehand about the answers as served, by whichever source: a router's audits "
            "measure them."
        ]
