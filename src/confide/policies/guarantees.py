"""What a policy promises, on what evidence, as it stands in a policy file: one model per goal."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, Discriminator, Field, SerializerFunctionWrapHandler, Tag, model_serializer

from confide.policies.goals import SIMULTANEOUS, Per

ANY_DOMAIN = "*"
"""Stands for every domain without a threshold of its own."""

Share = Annotated[float, Field(ge=0, le=1)]
OpenShare = Annotated[float, Field(gt=0, lt=1)]
Difference = Annotated[float, Field(ge=-1, le=1)]
Price = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Sparing(BaseModel, extra="forbid"):
    """A part of a policy file without what it does not need to say: files of before do not change."""

    _spared: ClassVar[tuple[str, ...]] = ("per", "entities", "most_rows", "uncovered")

    @model_serializer(mode="wrap")
    def _without_none(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in write(self).items() if value is not None or name not in self._spared}


class Evidence(Sparing):
    """What the calibration rows of one domain say; ``"*"`` is every domain without a threshold of its own.

    ``observed`` and ``upper_bound`` are of the quantity that the goal bounds, ``coverage`` is the share answered. Where
    the goal is not ``met`` nothing is kept, and both are None. ``most_rows`` is as in `Promise`.
    """

    met: bool
    n: int = Field(ge=0)
    observed: Difference | None = None
    upper_bound: Difference | None = None
    coverage: Share = 0.0
    most_rows: int | None = Field(default=None, ge=1)


class Promise(Sparing):
    """What every promise says; ``n`` rows were tested, and a share ``coverage`` of them is answered.

    With ``domains`` the promise holds in each of them, for all at once; ``upper_bound`` is then the largest.

    ``per`` says what counts alike where several calibration rows share an entity: every question, of ``entities`` with
    at most ``most_rows`` rows, or every entity, by one row of each. None: each entity had one row, so both are the
    same, or the file is of before ``per``, and one row of each entity was tested. ``uncovered`` is the share of the
    calibration rows that are of entities with more (of several domains the largest; None: there were none, or the file
    is of before it).
    """

    _fields: ClassVar[tuple[str, str]]

    level: OpenShare
    method: str
    n: int = Field(ge=1)
    coverage: Share
    domains: dict[str, Evidence] = Field(default_factory=dict)
    per: Per | None = None
    entities: int | None = Field(default=None, ge=1)
    most_rows: int | None = Field(default=None, ge=1)
    uncovered: Share | None = None

    @property
    def limit(self) -> float:
        """The promised bound of the goal's quantity."""
        return float(getattr(self, self._fields[0]))

    @property
    def observed(self) -> float:
        """The goal's quantity on the calibration rows."""
        return float(getattr(self, self._fields[1]))


class JudgeError(BaseModel, extra="forbid"):
    """How often the judge ``by`` was wrong; in a guarantee, on kept rows.

    It judged ``judged`` of them, a grader decided on any others. Of those that are ``labelled`` it called ``missed``
    wrong ones right and ``false_alarms`` right ones wrong.
    """

    by: str
    judged: int = Field(ge=0)
    labelled: int = Field(ge=0)
    missed: int = Field(ge=0)
    false_alarms: int = Field(ge=0)

    def explain(self, of: str = "of the kept answers") -> str:
        """Who graded so many answers ``of`` which, and how often that was wrong."""
        said = f"{self.judged:,} {of} were graded by {self.by or 'a judge'}, whose own error "
        if not self.labelled:
            return f"{said}is not known: none of them has a label (`confide label`)."
        return (
            f"{said}was measured on {self.labelled:,} labelled ones: missed {self.missed:,}, false alarms "
            f"{self.false_alarms:,}."
        )


class Guarantee(Promise):
    """``--max-risk``: with probability at least ``level``, P(wrong | kept) ≤ ``max_risk``.

    The probability is over the calibration rows, the risk that of new rows exchangeable with them. ``observed_risk``
    and ``upper_bound`` were seen on the rows tested. With a ``judge`` they count its own error.
    """

    _fields = ("max_risk", "observed_risk")
    _spared = (*Promise._spared, "judge")

    goal: Literal["max_risk"] = "max_risk"
    max_risk: OpenShare
    observed_risk: Share
    upper_bound: Share
    judge: JudgeError | None = None


class BudgetGuarantee(Promise):
    """``--budget``: at most a share ``budget`` of new questions escalates.

    ``accuracy`` is that of small model and expert together on the labelled calibration rows; ``expert`` names the one
    whose answers were seen, None when it was taken to be always right.
    """

    _fields = ("budget", "observed_share")

    goal: Literal["budget"]
    budget: OpenShare
    observed_share: Share
    upper_bound: Share
    accuracy: Share | None = None
    expert: str | None = None


class Detection(BaseModel, extra="forbid"):
    """Of ``n`` rows that are not fine, whose label is false, a share ``detected`` was not kept, with its 95 % interval.

    It is an estimate beside a promise about fine rows, and no promise.
    """

    n: int = Field(ge=1)
    detected: Share
    low: Share
    high: Share

    def explain(self) -> str:
        """The share and its interval in a sentence."""
        return (
            f"Of {self.n:,} rows that are not fine, {self.detected:.1%} are not kept either (95% interval "
            f"{self.low:.1%} to {self.high:.1%}); nothing is promised about these."
        )


class FalseAlarmGuarantee(Promise):
    """``--max-false-alarms``: at most a share ``max_share`` of new fine answers, those that are correct, is not kept.

    Of the ``n`` fine rows tested ``observed_share`` was not kept. ``detection`` is what was seen on all others (None:
    there were none).
    """

    _fields = ("max_share", "observed_share")
    _spared = (*Promise._spared, "detection")

    goal: Literal["false_alarms"]
    max_share: OpenShare
    observed_share: Share
    upper_bound: Share
    detection: Detection | None = None


class MatchGuarantee(Promise):
    """``--match-expert``: the pair's accuracy is at most ``margin`` below that of ``expert`` alone.

    ``observed_loss`` is the difference on the rows tested, the expert's accuracy less the pair's.
    """

    _fields = ("margin", "observed_loss")

    goal: Literal["match_expert"]
    margin: OpenShare
    observed_loss: Difference
    upper_bound: Difference
    expert: str = ""


class CostEstimate(BaseModel, extra="forbid"):
    """``--cost``: thresholds of least expected cost; an estimate, nothing is promised.

    ``observed_cost`` is the mean over ``n`` calibration rows, ``always`` that of one decision for every row.
    """

    goal: Literal["cost"]
    answer: Price
    escalate: Price
    wrong: Price
    abstain: Price | None = None
    n: int = Field(ge=1)
    coverage: Share
    observed_cost: Price
    always: dict[Literal["answer", "escalate", "abstain"], Price]
    expert: str | None = None


def _goal(value: Any) -> Any:
    # The first policy files do not name their goal.
    return value.get("goal", "max_risk") if isinstance(value, dict) else getattr(value, "goal", None)


Bounded = Guarantee | BudgetGuarantee | MatchGuarantee | FalseAlarmGuarantee
AnyGuarantee = Annotated[
    Annotated[Guarantee, Tag("max_risk")]
    | Annotated[BudgetGuarantee, Tag("budget")]
    | Annotated[MatchGuarantee, Tag("match_expert")]
    | Annotated[FalseAlarmGuarantee, Tag("false_alarms")]
    | Annotated[CostEstimate, Tag("cost")],
    Discriminator(_goal),
]


_AIM = ("goal", "max_risk", "budget", "margin", "max_share", "level", "answer", "escalate", "wrong", "abstain")


def aim_of(g: Bounded | CostEstimate) -> dict[str, Any]:
    """The goal, with its limit and level or its prices: what was asked for, whatever the rows said."""
    return {name: value for name in _AIM if (value := getattr(g, name, None)) is not None}


def explain_guarantee(g: Bounded | CostEstimate) -> list[str]:
    """Promise, evidence and limits of a guarantee, a sentence or two each."""
    if isinstance(g, CostEstimate):
        prices = f"answer {g.answer:g}, escalate {g.escalate:g}, wrong {g.wrong:g}"
        prices += "" if g.abstain is None else f", abstain {g.abstain:g}"
        always = ", ".join(f"{cost:.4g} to {name} always" for name, cost in g.always.items())
        return [
            f"Goal: least expected cost ({prices}). {_explain_expert(g.expert)}",
            f"Evidence: {g.n:,} calibration rows, {g.coverage:.1%} of them kept; {g.observed_cost:.4g} a question, "
            f"against {always}.",
            "Nothing is promised: the thresholds are the cheapest by the calibrated probabilities of these rows.",
        ]
    each = " in every domain named below" if g.domains else ""
    promise, evidence = _in_words(g)
    fine = "fine " * isinstance(g, FalseAlarmGuarantee)
    return [
        f"Promise: with probability at least {100 * g.level:.4g}% over the calibration rows, {promise}{each}, "
        f"for new questions drawn as those were. {explain_counting(g.per, g.most_rows, g.uncovered)}",
        f"Evidence: {g.n:,} {fine}calibration rows{_explain_entities(g)}, {g.coverage:.1%} of them kept; {evidence}",
        *(f"  {_explain_domain(domain, evidence)}" for domain, evidence in g.domains.items()),
        *_explain_assumption(g),
        "Not promised: anything about one single answer, another model or source, or questions unlike "
        "the calibration rows. `confide validate` checks the promise on fresh rows.",
    ]


def _in_words(g: Bounded) -> tuple[str, str]:
    """What is promised, and what was seen of it."""
    bound, limit = f"(upper bound {g.upper_bound:.1%}; {g.method}).", f"{100 * g.limit:.4g}%"
    if isinstance(g, BudgetGuarantee):
        seen = f"{g.observed_share:.1%} escalated {bound}"
        if g.accuracy is not None:
            seen += f" Accuracy with the expert there: {g.accuracy:.1%}. {_explain_expert(g.expert)}"
        return f"at most {limit} of new questions escalate", seen
    if isinstance(g, MatchGuarantee):
        alone = f"{g.expert or 'the expert'} alone"
        pair = f"small model and expert together are at most {limit} less accurate than {alone}"
        return pair, f"{g.observed_loss:+.1%} of accuracy lost to the expert's {bound}"
    if isinstance(g, FalseAlarmGuarantee):
        seen = f"{g.observed_share:.1%} were not {bound}"
        seen += "" if g.detection is None else f" {g.detection.explain()}"
        return f"at most {limit} of fine answers (correct is true) are not kept", seen
    seen = f"{g.observed_risk:.1%} of the kept ones were wrong {bound}"
    seen += "" if g.judge is None else f" {g.judge.explain()}"
    return f"at most {limit} of the kept answers are wrong", seen


def explain_counting(per: Per | None, most: int | None, uncovered: float | None = None) -> str:
    """What counts alike in a promise, in a sentence."""
    if per == "question":
        more = "one question" if most == 1 else f"{most} questions"
        theirs = "" if uncovered is None else f"; {uncovered:.1%} of these rows are theirs"
        return (
            f"Counted per question: an entity counts as often as it is asked about. Entities with more than {more} are "
            f"not covered{theirs}."
        )
    if per == "entity":
        return (
            "Counted per entity: each counts once, with one question drawn at random, however often it is asked about."
        )
    return "Each question counts; of several about one entity, one drawn at random."


def _explain_entities(g: Bounded) -> str:
    if g.per == "question":
        return f" of {g.entities:,} entities"
    return ", one of each entity" if g.per == "entity" else ""


def _explain_assumption(g: Bounded) -> list[str]:
    if not isinstance(g, Guarantee):
        return []
    labels = ["Assumed of the labels: which of the judge's rows have one was drawn at random."] if g.judge else []
    if g.method.startswith(SIMULTANEOUS):
        return [*labels, "Assumed of the confidence: nothing. The bound holds at every threshold at once."]
    return [
        *labels,
        "Assumed of the confidence: surer answers are not wrong more often than less sure ones. Where they are, the "
        "level is approximate; `--simultaneous` assumes nothing.",
    ]


def _explain_domain(domain: str, evidence: Evidence) -> str:
    name = "every other domain" if domain == ANY_DOMAIN else domain
    if not evidence.met or evidence.observed is None or evidence.upper_bound is None:
        return f"{name}: {evidence.n:,} rows do not show the goal, so nothing is kept there."
    return (
        f"{name}: {evidence.n:,} rows, {evidence.coverage:.1%} kept, {evidence.observed:.1%} observed, "
        f"upper bound {evidence.upper_bound:.1%}."
    )


def _explain_expert(expert: str | None) -> str:
    if expert is None:
        return "No expert's answers were given, so the expert is taken to be always right."
    return f"The expert is {expert}." if expert else "The expert's own errors are counted."
