"""Ask a router with the OpenAI client, and read how sure the small model was and who answered.

Run:
    confide demo --quick
    confide serve --config confide-demo/serve.yaml
    python examples/route_with_openai_client.py            # in another terminal

Prints, for each question, the answer, the small model's confidence, what the policy decided and who answered. At the
end it tells the router that the last answer was right: such labels are what the dashboard checks the promise by.
"""

import os

from openai import OpenAI

ROUTER = os.environ.get("ROUTER", "http://127.0.0.1:8000/v1")
QUESTIONS = (
    "In which country is the city of Nagoya?",
    "In which country is the city of Antsirabe?",
    "What is the capital of Peru?",
)

client = OpenAI(base_url=ROUTER, api_key="none")

for question in QUESTIONS:
    reply = client.chat.completions.create(
        model="confide",
        messages=[{"role": "user", "content": question}],
    )
    told = (reply.model_extra or {})["confide"]
    print(question)
    print(f"  answer      {reply.choices[0].message.content}")
    print(f"  confidence  {told['confidence']:.2f}")
    print(f"  decision    {told['decision']}")
    print(f"  answered by {told['answered_by']}")

client.post(
    "/feedback",
    body={"decision_id": told["decision_id"], "correct": True},
    cast_to=object,
)
