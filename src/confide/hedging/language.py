"""A language's words of likelihood: what each stands for, which source says so, and the sentences that hold them.

There is one file per language (``languages/en.yaml``); a language is added by writing one more.
"""

from __future__ import annotations

import functools
import itertools
from importlib import resources
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from confide.errors import ConfideError
from confide.hashing import sha256_of_rows

TOLERANCE = 0.1
"""How far the number that a reader takes from the words may be from the confidence."""

SLACK = 1e-9  # 0.5 - 0.4 is more than 0.1 in binary


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(_Part):
    """A publication that rates phrases, and what its numbers and their spread are."""

    title: str
    url: str
    number: str
    spread: str


class Rating(_Part):
    """What a phrase stands for, with the spread that its source gives; ``like`` names where it is borrowed from."""

    value: float = Field(ge=0, le=1)
    low: float = Field(ge=0, le=1)
    high: float = Field(ge=0, le=1)
    source: str
    like: str | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low <= self.value <= self.high:
            raise ValueError(f"{self.value} lies outside of its spread, {self.low} to {self.high}")
        return self


class Form(_Part):
    """A sentence around an answer of a few words, and the remark that follows a whole sentence."""

    answer: str = Field(pattern=r"\{hedge\}.*\{answer\}\.$")
    remark: str = Field(pattern=r"\{hedge\}")


class Hedge(Rating):
    """A phrase with the words and the form that a style writes it in, and what it stands for there."""

    phrase: str
    form: str
    written: str


class Style(_Part):
    """The phrases that a style writes, in the order of what they stand for; ``scale``: by its own numbers."""

    about: str
    scale: bool
    hedges: tuple[Hedge, ...]

    def near(self, confidence: float) -> list[Hedge]:
        """The phrases for a confidence in [0, 1]: the nearest one, and those of the same 0.05 wide bin."""
        distances = [abs(hedge.value - confidence) for hedge in self.hedges]
        limit = min(min(distances) + 0.025, TOLERANCE) + SLACK
        return [hedge for hedge, distance in zip(self.hedges, distances, strict=True) if distance <= limit]


class Negation(_Part):
    """Words that deny a phrase, words that may stand between, and the phrases that a denial reads like."""

    words: tuple[str, ...]
    between: tuple[str, ...]
    sureness: str
    doubt: str


class Prompt(_Part):
    """The messages to a language model: the first two, and the reason why a rewrite was refused."""

    system: str
    user: str
    content: str
    wording: str


class Language(_Part):
    """One language's table, styles and sentences."""

    code: str
    name: str
    sources: dict[str, Source]
    phrases: dict[str, Rating]
    ignored: tuple[str, ...]
    negation: Negation
    opposites: tuple[str, ...]
    clause: tuple[str, ...]
    forms: dict[str, Form]
    styles: dict[str, Style]
    suffixes: tuple[str, ...]
    prompt: Prompt

    @model_validator(mode="before")
    @classmethod
    def _resolved(cls, data: Any) -> Any:
        """Follow ``like``, and give every phrase of a style its number."""
        listed: dict[str, Any] = data["phrases"]
        phrases = {phrase: {**listed.get(rating.get("like"), {}), **rating} for phrase, rating in listed.items()}
        styles = {}
        for name, style in data["styles"].items():
            own = style.get("scale", False)
            hedges = [
                {"written": entry["phrase"], **({} if own else phrases[entry["phrase"]]), **entry}
                for entry in style["phrases"]
            ]
            hedges.sort(key=lambda hedge: hedge["value"])
            styles[name] = {"about": style["about"], "scale": own, "hedges": hedges}
        return {**data, "phrases": phrases, "styles": styles}

    @model_validator(mode="after")
    def _complete(self) -> Self:
        for phrase, rating in self.phrases.items():
            if rating.source not in self.sources:
                raise ValueError(f"{phrase}: no source {rating.source!r}")
        for name, style in self.styles.items():
            for hedge in style.hedges:
                if hedge.source not in self.sources or hedge.form not in self.forms or hedge.like:
                    raise ValueError(f"{name}: {hedge.phrase} needs a source and a form that exist")
            values = [0 - TOLERANCE, *(hedge.value for hedge in style.hedges), 1 + TOLERANCE]
            for below, above in itertools.pairwise(values):
                if above - below > 2 * TOLERANCE + SLACK:
                    raise ValueError(f"{name}: nothing stands for {(below + above) / 2:.3f}")
        return self

    def style(self, name: str) -> Style:
        """A style by its name; raises `ConfideError` naming those that exist."""
        if name not in self.styles:
            raise ConfideError(f"no style {name!r} in {self.name}: there are {', '.join(self.styles)}")
        return self.styles[name]

    def sha256(self, style: str) -> str:
        """A hash of all that a wording in this style is made from: phrases, sentences, prompt."""
        used = self.model_dump(mode="json", include={"forms", "suffixes", "prompt", "phrases", "negation"})
        return sha256_of_rows([used, self.style(style).model_dump(mode="json")])

    def scale(self, style: str | None = None) -> dict[str, float]:
        """Map each phrase to what it stands for, by the style's own scale where it brings one."""
        values = {phrase: rating.value for phrase, rating in self.phrases.items()}
        if style is not None and self.style(style).scale:
            values |= {hedge.phrase: hedge.value for hedge in self.style(style).hedges}
        return values


def languages() -> list[str]:
    """The codes of the languages that there are."""
    folder = resources.files("confide.hedging") / "languages"
    return sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml"))


@functools.cache
def load_language(code: str = "en") -> Language:
    """A language by its code; raises `ConfideError` naming those that exist."""
    if code not in languages():
        raise ConfideError(f"no language {code!r}: there is {', '.join(languages())}")
    text = (resources.files("confide.hedging") / "languages" / f"{code}.yaml").read_text(encoding="utf-8")
    try:
        return Language.model_validate({"code": code, **yaml.safe_load(text)})
    except ValidationError as error:
        problem = error.errors()[0]
        raise ConfideError(f"language {code}: {'.'.join(map(str, problem['loc']))}: {problem['msg']}") from None
