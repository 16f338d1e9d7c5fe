"""An agent that calls its tool only when it is not sure enough.

Run:
    confide demo --quick
    python examples/agent_asks_for_help.py

The model answers first. Where the policy keeps its answer, no tool is called. Where it does not, the agent asks a
gazetteer, reads the passage it gets, and answers again. Prints each answer, its confidence and the calls it took.
"""

from pathlib import Path

import confide
from confide.agent import Agent, Tool
from confide.policies import Policy
from confide.tasks.geography.gazetteer import passage

DEMO = Path("confide-demo")
QUESTIONS = (
    "In which country is the city of Nagoya?",
    "In which country is the city of Antsirabe?",
    "On which continent is the city of Tampere?",
)

agent = Agent(
    model=confide.load(DEMO / "model"),
    policy=Policy.load(DEMO / "policy.json"),
    tools=[Tool("gazetteer", passage, description="Looks up what a question is about.")],
)

for question in QUESTIONS:
    run = agent.run(question, max_new_tokens=20)
    confidence = run.answer.sources[agent.policy.source]
    print(question)
    print(f"  {run.text}  ({agent.policy.probability(confidence):.0%} sure, {len(run.calls)} calls)")
    for call in run.calls:
        print(f"  {call.tool} said: {call.result or call.problem}")
