"""From a row of a public data set to the fields of a `Question`: one pure function for each schema.

None means that the row has no reference and is left out.
"""

from __future__ import annotations

import ast
import json
import random
from collections.abc import Callable, Mapping
from typing import Any

Row = Mapping[str, Any]
Fields = dict[str, Any]
Convert = Callable[[Row], Fields | None]

MEDICINE = frozenset(
    {
        "anatomy",
        "clinical_knowledge",
        "college_biology",
        "college_medicine",
        "human_aging",
        "medical_genetics",
        "nutrition",
        "professional_medicine",
        "virology",
    }
)
LAW = frozenset({"international_law", "jurisprudence", "professional_law"})
"""Subjects of MMLU by domain; the other subjects are ``general``."""


def gsm8k(row: Row) -> Fields | None:
    """``answer`` is reasoning that ends in "#### number"."""
    number = str(row["answer"]).rpartition("####")[2].strip().replace(",", "")
    return {"kind": "number", "question": row["question"], "answer": number, "domain": "math"}


def svamp(row: Row) -> Fields | None:
    """A story (``Body``) and what is asked about it (``Question``); ``Answer`` is a number as text ("51.0")."""
    body = str(row["Body"]).strip()
    text = f"{body}{'' if body.endswith(('.', '?', '!')) else '.'} {str(row['Question']).strip()}"
    value = float(row["Answer"])
    answer = str(int(value)) if value.is_integer() else str(value)
    return {"kind": "number", "question": text, "answer": answer, "domain": "math", "operation": row.get("Type")}


def mmlu(row: Row) -> Fields | None:
    """``answer`` is the index; the domain marks law and medicine."""
    subject = str(row["subject"])
    domain = "medicine" if subject in MEDICINE else "law" if subject in LAW else "general"
    return _choice(row["question"], row["choices"], int(row["answer"]), domain) | {"subject": subject}


def labelled_choices(domain: str, question: str = "question") -> Convert:
    """``choices`` holds texts and their labels (A…, or 1…), ``answerKey`` the right one: ARC, OpenBookQA, CSQA."""

    def convert(row: Row) -> Fields | None:
        labels = list(row["choices"]["label"])
        if row["answerKey"] not in labels:
            return None
        return _choice(row[question], row["choices"]["text"], labels.index(row["answerKey"]), domain)

    return convert


def medqa(row: Row) -> Fields | None:
    """``options`` maps letters to texts, ``answer_idx`` is the right letter."""
    letters = sorted(letter for letter, text in row["options"].items() if text is not None)
    texts = [row["options"][letter] for letter in letters]
    return _choice(row["question"], texts, letters.index(row["answer_idx"]), "medicine")


def truthfulqa(row: Row) -> Fields | None:
    """The first of ``mc1_targets`` is always right, so the order is drawn anew, by the question's own text."""
    targets = row["mc1_targets"]
    order = list(range(len(targets["choices"])))
    random.Random(str(row["question"])).shuffle(order)
    right = order.index(list(targets["labels"]).index(1))
    return _choice(row["question"], [targets["choices"][i] for i in order], right, "misconceptions")


def casehold(row: Row) -> Fields | None:
    """A citing passage with a gap, five holdings; ``label`` is the right one's index."""
    text = f"{str(row['context']).strip()}\nWhich holding belongs in the place of <HOLDING>?"
    return _choice(text, row["endings"], int(row["label"]), "law")


def popqa(row: Row) -> Fields | None:
    """``possible_answers`` is JSON; the relation is the domain, the subject the entity."""
    accepted = json.loads(row["possible_answers"])
    return _short(row["question"], accepted, str(row["prop"])) | {
        "entity": f"subject:{row['subj_id']}",
        "asked": row["subj"],
        "popularity": row["s_pop"],
    }


def triviaqa(row: Row) -> Fields | None:
    """``answer`` has a value and its aliases."""
    answer = row["answer"]
    if not answer["value"] or answer["value"] == "<unk>":
        return None
    return _short(row["question"], [answer["value"], *answer["aliases"]], "trivia")


def simpleqa(row: Row) -> Fields | None:
    """``metadata`` is a Python dictionary as text, whose topic is the domain."""
    metadata = ast.literal_eval(row["metadata"])
    return _short(row["problem"], [row["answer"]], str(metadata["topic"]))


def selfaware(row: Row) -> Fields | None:
    """``answer`` is null where nobody can know."""
    domain = "answerable" if row["answerable"] else "unanswerable"
    return _short(row["question"], row["answer"] or [] if row["answerable"] else [], domain)


def _choice(question: str, choices: Any, answer: int, domain: str) -> Fields:
    texts = [str(text) for text in choices]
    return {"kind": "choice", "question": question, "choices": texts, "answer": answer, "domain": domain}


def _short(question: str, accepted: list[str], domain: str) -> Fields:
    texts = list(dict.fromkeys(str(text) for text in accepted))
    return {"kind": "short", "question": question, "answer": texts, "domain": domain}
