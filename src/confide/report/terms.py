"""Terms: the words of the pages, each explained in a sentence. The one source of every page's glossary."""

from __future__ import annotations

TERMS = {
    "abstain": "To give no answer: the confidence is too low, and asking an expert is not worth its price.",
    "AIQ": "The mean accuracy over all budgets, from never asking the expert to always asking.",
    "APGR": "The share of the expert's lead that is recovered, averaged over all shares escalated; 0.5 is what "
    "escalating at random recovers, 1 would be all of it.",
    "audit": "A request, drawn at random, that the small model and the expert both answer, to see who is right.",
    "AUROC": "The chance that a right answer has a higher confidence than a wrong one; 0.5 is a coin, 1 is perfect.",
    "Brier score": "The mean squared distance between confidence and outcome (1 right, 0 wrong); lower is better.",
    "calibration": "Making confidences agree with what happens: of the answers given 0.8, eight in ten are right.",
    "cMFG*": "How close a confidence is to the share of the model's own sampled answers that agree with the answer; "
    "1 is exact.",
    "confidence": "A number from 0 to 1 that says how likely an answer is to be right.",
    "control": "A check that can fail, and then shows that a number means less than it seems.",
    "coverage": "The share of questions whose answer is kept.",
    "CPT(50)": "The smallest share escalated that recovers half of the expert's lead; CPT(80) and CPT(95) likewise.",
    "domain": "The field that a question is from, as the records name it.",
    "ECE": "How far confidences are from the share that is right, on average over bins of similar confidence.",
    "entity": "What a question asks about, such as one city. Its rows depend on each other and are drawn together.",
    "escalate": "To ask an expert instead of sending the model's own answer.",
    "expert": "Who answers an escalated question: a larger model, a tool or a person, better and dearer.",
    "family": "Where a source comes from: learned from graded answers, asked of the model, made of several samples, "
    "free with the answer, given in the file, or from outside.",
    "floor": "A source or a score that knows nothing about the answers; what is not above it says nothing.",
    "free source": "A confidence that comes with the answer at no cost, such as its own probability.",
    "interval": "The range beside a number, made so that in 95 of 100 such evaluations it holds the true one.",
    "kept": "Sent as it is, because the confidence reaches the threshold. The others are escalated.",
    "log loss": "The mean surprise at the outcome, in nats; it punishes being sure and wrong. Lower is better.",
    "oracle": "A source that knows which answers are right: nobody can do better.",
    "paired difference": "One source or model minus another on the very same questions, which takes out their luck.",
    "parity share": "The smallest share escalated at which both together are within a hundredth of the expert.",
    "policy": "The rule, in a file, that turns a confidence into a decision: answer, escalate or abstain.",
    "prediction–rejection ratio": "The share of an oracle's gain that is had by leaving out the least confident "
    "answers; 0 is chance, 1 is the oracle.",
    "prior": "A source that sees the text of question or answer alone and never the model. A confidence must beat it.",
    "promise": "What a policy was shown to keep with the stated probability, on new questions like its own rows.",
    "risk": "The share of wrong answers among the kept ones.",
    "source": "The name of a way to get a confidence, and of its column in the records.",
    "threshold": "The confidence from which on an answer is kept.",
}
"""Term to its meaning, in alphabetical order."""

REPORT = tuple(term for term in TERMS if term not in ("abstain", "audit"))
"""The terms of the report."""

DASHBOARD = (
    "audit",
    "calibration",
    "confidence",
    "coverage",
    "domain",
    "escalate",
    "expert",
    "interval",
    "kept",
    "policy",
    "promise",
    "risk",
)
"""The terms of the router's dashboard."""

COMPARISON = (
    "AUROC",
    "Brier score",
    "confidence",
    "coverage",
    "ECE",
    "entity",
    "interval",
    "kept",
    "paired difference",
    "risk",
    "source",
)
"""The terms of the page that compares two runs."""


def glossary(words: tuple[str, ...]) -> dict[str, str]:
    """These terms with their meanings, in alphabetical order."""
    return {word: meaning for word, meaning in TERMS.items() if word in words}
