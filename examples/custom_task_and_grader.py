"""Your own questions, your own prompt, and your own idea of what is right.

Run:
    python examples/custom_task_and_grader.py

The bundled model names the chemical symbols of thirty elements. A symbol is right in its own spelling alone (Co is an
element, CO is a gas), so the task brings a grader of its own. Prints how many answers are right, how well the answer's
probability tells right from wrong, and the surest wrong answers. Records are in elements.jsonl, ready for
`confide train`. On the command line: `confide annotate --task questions.jsonl --grader my_module:grade`.
"""

from pathlib import Path

import confide
from confide.annotation import annotate
from confide.methods import score
from confide.metrics import auroc
from confide.records import read_records
from confide.tasks import Grade, Question, Task

SYMBOLS = """Hydrogen H, Helium He, Lithium Li, Carbon C, Nitrogen N, Oxygen O, Neon Ne, Sodium Na, Magnesium Mg,
Silicon Si, Phosphorus P, Sulfur S, Chlorine Cl, Argon Ar, Potassium K, Calcium Ca, Titanium Ti, Iron Fe, Cobalt Co,
Nickel Ni, Copper Cu, Zinc Zn, Silver Ag, Tin Sn, Iodine I, Tungsten W, Gold Au, Mercury Hg, Lead Pb, Uranium U"""
ELEMENTS = dict(pair.split() for pair in SYMBOLS.replace("\n", " ").split(", "))


def prompt(question: Question) -> list[dict[str, str]]:
    """Worked examples show a small model what is wanted."""
    shown = [("What is the chemical symbol of barium?", "Ba"), ("What is the chemical symbol of boron?", "B")]
    turns = [("user" if place == 0 else "assistant", text) for pair in shown for place, text in enumerate(pair)]
    return [{"role": role, "content": text} for role, text in [*turns, ("user", question.question)]]


def grade(question: Question, answer: str) -> Grade:
    """The first word has to be the symbol, capitals and all."""
    words = answer.split()
    named = words[0].strip(".") if words else None
    return Grade(correct=named in question.accepted, answered=named)


questions = [
    Question(id=name, kind="short", question=f"What is the chemical symbol of {name.lower()}?", answer=[symbol])
    for name, symbol in ELEMENTS.items()
]
task = Task("elements", questions, grade=grade, prompt=prompt, max_new_tokens=8)

model = confide.load("smollm2")
annotate(model.engine, task, Path("elements.jsonl"))
records = score(read_records(Path("elements.jsonl")), ["logprob_mean"])

sure = [record.confidence["logprob_mean"] or 0.0 for record in records]
right = [bool(record.correct) for record in records]
print(f"{sum(right)} of {len(right)} right; AUROC of the answer's probability {auroc(sure, right):.2f}")
print("The surest wrong answers:")
wrong = [(value, record) for value, record in zip(sure, records, strict=True) if not record.correct]
for value, record in sorted(wrong, key=lambda pair: -pair[0])[:3]:
    print(f"  {value:.2f}  {record.question} {record.answer}")
