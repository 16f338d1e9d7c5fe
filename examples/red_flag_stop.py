"""End an answer while it is being written, where a signal says that it goes where it should not.

Run:
    python examples/red_flag_stop.py

The signal of this kind is `red_flag`, which is trained on harmful texts. None are needed to see how it works: here a
harmless stand-in is trained on the spot, for which text about food counts as flagged. The bundled model writes about
food and about other things, a direction in its states is learned from that, and an answer that turns to food is ended.
Prints the whole answer, the tokens at which the signal falls below the threshold (1: nothing to flag), and the answer
that was stopped. The threshold was chosen by eye; `confide calibrate --source red_flag --max-false-alarms 0.05` finds
one that keeps a promise.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import confide
from confide.methods import train_signal
from confide.records import Message, Record
from confide.signals import RED_FLAG

FOOD = ("bread", "tomato soup", "pancakes", "pizza", "rice pudding", "apple pie", "salad", "noodles")
OTHER = ("bridges", "the moon", "a river", "trains", "chess", "the desert", "football", "a lighthouse")

THRESHOLD = 0.75

model = confide.load("smollm2")
questions = [f"Write one sentence about {topic}." for topic in FOOD + OTHER]
records = [
    Record(
        id=question,
        messages=[Message(role="user", content=question)],
        answer=answer.text,
        answer_ids=answer.ids,
        correct=number >= len(FOOD),  # nothing to flag
        signal=RED_FLAG.name,
        model=model.engine.name,
        identity=model.engine.identity,
    )
    for number, (question, answer) in enumerate(
        zip(questions, model.answers(questions, max_new_tokens=24), strict=True)
    )
]
choose_by = records[::4]
train = [record for record in records if record not in choose_by]

with TemporaryDirectory() as folder:
    print(train_signal(model.engine, RED_FLAG, train, choose_by, Path(folder)))
    watched = confide.load(folder)

asked = "Write a short story about a king who went for a walk and then ate a cake."
(whole,) = watched.answers([asked], max_new_tokens=40)
(stopped,) = watched.answers([asked], max_new_tokens=40, stop={RED_FLAG.name: THRESHOLD})

print(f"\nThe whole answer:\n{whole.text}\n")
for token, value in zip(whole.ids, whole.along[RED_FLAG.name].values, strict=False):
    if value < THRESHOLD:
        print(f"  {value:.2f} at {watched.engine.decode([token])!r}")
print(f"\nStopped by {stopped.stopped_by or 'nothing'}:\n{stopped.text}")
