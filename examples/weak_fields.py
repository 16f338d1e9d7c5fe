"""Which fields of an extracted JSON object need a second look?

Run:
    python examples/weak_fields.py

The bundled model reads the description of a made-up event and writes its fields as JSON. One generation gives the
answer and a confidence for each field. Prints the fields, the least sure one first, and marks the wrong ones.
Here a field's confidence is the probability of its value's own tokens. One that is learned from graded fields tells
wrong ones better: `confide train stack --signal field`.
"""

import json

import confide
from confide.tasks import load_task
from confide.tasks.field_grader import same_value

model = confide.load("smollm2")
task = load_task("extraction", limit=2)
question = task.questions[1]  # an event
truth = question.answer
assert isinstance(truth, dict)

answer = model.answer(task.prompt(question), max_new_tokens=task.max_new_tokens, fields=True)

print(question.question)
for field in sorted(answer.fields, key=lambda field: field.confidence or 0):
    right = truth.get(field.name.removeprefix("/"))
    mark = "" if same_value(right, field.value) else f"   wrong, should be {json.dumps(right)}"
    print(f"  {field.confidence:.2f}  {field.name:8} {field.value}{mark}")
