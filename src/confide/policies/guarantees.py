"""What a policy promises, on what evidence, as it stands in a policy file; one model a goal."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

ANY_DOMAIN = "*"
"""Stands for every domain without a threshold of its own."""

Share = Annotated[float, Field(ge=0, le=1)]
OpenShare = Annotated[float, Field(gt=0, lt=1)]
Price = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Evidence(BaseModel):
    """What the calibration rows of one domain say; ``"*"`` is every domain without a threshold of its own.

    ``observed`` and ``upper_bound`` are of the quantity that the goal bounds, ``coverage`` the share answered. Where
    the goal is not ``met`` nothing is kept, and both are None.
    """

    model_config = ConfigDict(extra="forbid")

    met: bool
    n: int = Field(ge=0)
    observed: float | None = Field(default=None, ge=-1, le=1)
    upper_bound: float | None = Field(default=None, ge=-1, le=1)
    coverage: Share = 0.0


class _Promise(BaseModel):
    model_config = ConfigDict(extra="forbid")

    level: OpenShare
    method: str
    n: int = Field(ge=1)
    coverage: Share
    domains: dict[str, Evidence] = Field(default_factory=dict)


class Guarantee(_Promise):
    """``--max-risk``: what is promised about kept answers, and the calibration rows that it rests on.

    With probability at least ``level`` over the calibration rows, P(wrong | kept) ≤ ``max_risk`` for new rows
    exchangeable with them. ``n`` rows were tested; ``observed_risk``, ``upper_bound`` and ``coverage`` are shares seen
    on them. With ``domains`` the promise holds in each of them, for all at once; ``upper_bound`` is then the largest.
    """

    goal: Literal["max_risk"] = "max_risk"
    max_risk: OpenShare
    observed_risk: Share
    upper_bound: Share

    @property
    def limit(self) -> float:
        """The promised bound."""
        return self.max_risk

    @property
    def observed(self) -> float:
        """The bounded quantity on the calibration rows."""
        return self.observed_risk


class BudgetGuarantee(_Promise):
    """``--budget``: at most a share ``budget`` of new questions escalates.

    ``accuracy`` is that of small model and expert together on the labelled calibration rows; ``expert`` names the one
    whose answers were seen, None when it was taken to be always right.
    """

    goal: Literal["budget"]
    budget: OpenShare
    observed_share: Share
    upper_bound: Share
    accuracy: Share | None = None
    expert: str | None = None

    @property
    def limit(self) -> float:
        """The promised bound."""
        return self.budget

    @property
    def observed(self) -> float:
        """The bounded quantity on the calibration rows."""
        return self.observed_share


class MatchGuarantee(_Promise):
    """``--match-expert``: the pair's accuracy is at most ``margin`` below that of ``expert`` alone.

    ``observed_loss`` is the difference on the ``n`` tested rows, the expert's accuracy less the pair's.
    """

    goal: Literal["match_expert"]
    margin: OpenShare
    observed_loss: float = Field(ge=-1, le=1)
    upper_bound: float = Field(ge=-1, le=1)
    expert: str = ""

    @property
    def limit(self) -> float:
        """The promised bound."""
        return self.margin

    @property
    def observed(self) -> float:
        """The bounded quantity on the calibration rows."""
        return self.observed_loss


class CostEstimate(BaseModel):
    """``--cost``: thresholds of least expected cost; an estimate, nothing is promised.

    ``observed_cost`` is the mean over ``n`` calibration rows, ``always`` that of one decision for every row.
    """

    model_config = ConfigDict(extra="forbid")

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
    # Files of before there were several goals do not name theirs.
    return value.get("goal", "max_risk") if isinstance(value, dict) else getattr(value, "goal", None)


AnyGuarantee = Annotated[
    Annotated[Guarantee, Tag("max_risk")]
    | Annotated[BudgetGuarantee, Tag("budget")]
    | Annotated[MatchGuarantee, Tag("match_expert")]
    | Annotated[CostEstimate, Tag("cost")],
    Discriminator(_goal),
]


def in_words(g: Guarantee | BudgetGuarantee | MatchGuarantee | CostEstimate) -> list[str]:
    """Promise, evidence and limits of a guarantee, a sentence or two each."""
    if isinstance(g, CostEstimate):
        prices = f"answer {g.answer:g}, escalate {g.escalate:g}, wrong {g.wrong:g}"
        prices += "" if g.abstain is None else f", abstain {g.abstain:g}"
        always = ", ".join(f"{cost:.4g} to {name} always" for name, cost in g.always.items())
        return [
            f"Goal: least expected cost ({prices}). {_expert_in_words(g.expert)}",
            f"Evidence: {g.n:,} calibration rows, {g.coverage:.1%} of them kept; {g.observed_cost:.4g} a question, "
            f"against {always}.",
            "Nothing is promised: the thresholds are the cheapest by the calibrated probabilities of these rows.",
        ]
    sure = f"Promise: with probability at least {_percent(g.level)} over the calibration rows, "
    each = " in every domain named below" if g.domains else ""
    rows = f"Evidence: {g.n:,} calibration rows, {g.coverage:.1%} of them kept; "
    bound = f"(upper bound {g.upper_bound:.1%}; {g.method})."
    if isinstance(g, BudgetGuarantee):
        promise = f"at most {_percent(g.budget)} of new questions escalate{each}"
        evidence = f"{g.observed_share:.1%} escalated {bound}"
        if g.accuracy is not None:
            evidence += f" Accuracy with the expert there: {g.accuracy:.1%}. {_expert_in_words(g.expert)}"
    elif isinstance(g, MatchGuarantee):
        promise = f"small model and expert together are at most {_percent(g.margin)} less accurate than "
        promise += f"{g.expert or 'the expert'} alone{each}"
        evidence = f"{g.observed_loss:+.1%} of accuracy lost to the expert's {bound}"
    else:
        promise = f"at most {_percent(g.max_risk)} of the kept answers are wrong{each}"
        evidence = f"{g.observed_risk:.1%} of the kept ones were wrong {bound}"
    lines = [f"{sure}{promise}, for new questions drawn as those were.", rows + evidence]
    for domain, seen in g.domains.items():
        name = "every other domain" if domain == ANY_DOMAIN else domain
        if seen.met and seen.observed is not None and seen.upper_bound is not None:
            lines.append(f"  {name}: {seen.n:,} rows, {seen.coverage:.1%} kept, {seen.observed:.1%} observed, "
                         f"upper bound {seen.upper_bound:.1%}.")  # fmt: skip
        else:
            lines.append(f"  {name}: {seen.n:,} rows do not show the goal, so nothing is kept there.")
    lines.append(
        "Not promised: anything about one single answer, another model or source, or questions unlike "
        "the calibration rows. `confide validate` checks the promise on fresh rows."
    )
    return lines


def _expert_in_words(expert: str | None) -> str:
    if expert is None:
        return "No expert's answers were given, so the expert is taken to be always right."
    return f"The expert is {expert}." if expert else "The expert's own errors are counted."


def _percent(share: float) -> str:
    return f"{100 * share:.4g}%"
