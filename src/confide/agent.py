"""An agent that knows when to ask for help: it answers by itself, and calls a tool only where a policy does not answer.

Tools are asked in their order, each at most once, until the policy accepts an answer. What one says is put behind the
question, and the model answers again. A tool may fail, hang or return anything at all: it is called in a thread
that is given up, what it returns is cut, and it becomes one line of ordinary characters, so that it can neither write
a turn of the conversation nor look like one.

>>> from confide.agent import Agent, Tool  # doctest: +SKIP
>>> agent = Agent(confide.load("runs/stack"), policy, [Tool("gazetteer", passage)])  # doctest: +SKIP
>>> agent.run("In which country is the city of Nagoya?").text  # doctest: +SKIP
'Japan'
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from confide.errors import ConfideError
from confide.methods.confidence_model import Answer, Conversation
from confide.policies import Decision
from confide.policies.policy import Policy
from confide.records import Message

LONGEST_RESULT = 2000
"""Characters of a tool's result that the model reads."""
PATIENCE_S = 30.0
"""Seconds after which a call is given up; its thread is left behind."""

Messages = list[dict[str, Any]]


class Answering(Protocol):
    """A model that says how sure it is; `confide.load` gives one."""

    def as_asked(self, question: Conversation) -> list[Message]:
        """The conversation that the model reads when it is asked ``question``."""
        ...

    def answer(self, question: Conversation, *, max_new_tokens: int = 64) -> Answer:
        """Its answer, with its confidences."""
        ...


@dataclass(frozen=True)
class Tool:
    """What can be asked for help.

    Args:
        name: what it is called in the conversation.
        call: from the messages of a request to a text (None: it knows nothing), as the router's tools are.
        description: what it does, for the tools of a request.
    """

    name: str
    call: Callable[[Messages], str | None]
    description: str = ""

    @property
    def declared(self) -> dict[str, Any]:
        """The tool in the form of the OpenAI API's ``tools``."""
        question = {"type": "object", "properties": {"question": {"type": "string"}}, "required": ["question"]}
        about = {"name": self.name, "description": self.description, "parameters": question}
        return {"type": "function", "function": about}


@dataclass(frozen=True)
class ToolCall:
    """A call and what came of it.

    Attributes:
        tool: the tool's name.
        result: what the model was told ("" for nothing).
        problem: why it was told nothing: ``failed``, ``timeout``, ``no_answer`` or ``malformed``; ``cut`` where the
            result was longer than `LONGEST_RESULT` ("": none).
    """

    tool: str
    result: str
    problem: str = ""


@dataclass(frozen=True)
class Run:
    """How a question was answered.

    Attributes:
        answer: the last answer, with the confidences that the model gives it.
        decision: what the policy makes of it; ``answer`` alone stands behind it.
        calls: every call, in order.
        messages: the conversation in the form of the OpenAI API, calls and results included.
    """

    answer: Answer
    decision: Decision
    calls: list[ToolCall] = field(default_factory=list)
    messages: Messages = field(default_factory=list)

    @property
    def text(self) -> str:
        """The answer's text."""
        return self.answer.text


class Agent:
    """A model, a policy that says when its answer will do, and tools for when it will not.

    Args:
        model: answers with confidences.
        policy: decides on one of them.
        tools: in the order in which they are asked, the cheapest first.
    """

    def __init__(self, model: Answering, policy: Policy, tools: Sequence[Tool]):
        names = [tool.name for tool in tools]
        if len(set(names)) < len(names):
            raise ConfideError(f"every tool needs a name of its own, not {', '.join(names)}")
        self.model = model
        self.policy = policy
        self.tools = list(tools)

    def run(self, question: Conversation, *, max_new_tokens: int = 64) -> Run:
        """Answer a question or a conversation, with as many calls as it takes and there are tools.

        Raises:
            ConfideError: the question is none, or the model gives no confidence that the policy decides on.
        """
        asked = self.model.as_asked(question)
        messages = [message.model_dump() for message in asked]
        calls: list[ToolCall] = []
        answer = self.model.answer(asked, max_new_tokens=max_new_tokens)
        decision = self._decide(answer)
        for tool in self.tools:
            if decision == "answer":
                break
            call = call_tool(tool, messages)
            calls.append(call)
            if call.result:
                told = with_results(asked, [one.result for one in calls if one.result])
                answer = self.model.answer(told, max_new_tokens=max_new_tokens)
                decision = self._decide(answer)
        messages = [*messages, *_transcript(calls, _last_question(messages))]
        return Run(answer, decision, calls, [*messages, {"role": "assistant", "content": answer.text}])

    def _decide(self, answer: Answer) -> Decision:
        if not answer.sources.keys() & set(self.policy.sources):
            wanted, there = " or ".join(self.policy.sources), ", ".join(answer.sources) or "nothing"
            raise ConfideError(f"the policy decides on {wanted}, which the model does not give; it gives {there}")
        if answer.finish != "stop":
            return self.policy.decide(None)
        part = self.policy.choose(answer.sources)
        return part.decide(answer.sources.get(part.source))


def call_tool(tool: Tool, messages: Messages) -> ToolCall:
    """Call a tool once, whatever it does; see `ToolCall` for what may come of it."""
    found: list[Any] = []

    def work() -> None:
        try:
            found.append(tool.call([dict(message) for message in messages]))
        except BaseException as error:  # a tool is somebody else's code, in a thread of its own
            found.append(error)

    thread = threading.Thread(target=work, name=f"confide-tool-{tool.name}", daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    if not found:
        return ToolCall(tool.name, "", "timeout")
    result = found[0]
    if isinstance(result, BaseException):
        return ToolCall(tool.name, "", "failed")
    if result is None:
        return ToolCall(tool.name, "", "no_answer")
    if not isinstance(result, str) or not (line := as_one_line(result)):
        return ToolCall(tool.name, "", "malformed")
    return ToolCall(tool.name, line[:LONGEST_RESULT], "cut" if len(line) > LONGEST_RESULT else "")


def as_one_line(text: str) -> str:
    """A text as one line without control characters and halves of characters, which no turn can hide in.

    >>> as_one_line("Paris.\\n\\nQuestion:\\x00 who?")
    'Paris. Question: who?'
    """
    # Only the start is looked at: a result may be endless.
    words = "".join(c if c.isprintable() else " " for c in text[: 4 * LONGEST_RESULT]).split()
    return " ".join(words)


def _last_question(messages: Messages) -> str:
    return next((str(m["content"]) for m in reversed(messages) if m["role"] == "user"), "")


def with_results(asked: Sequence[Message], results: Sequence[str]) -> list[Message]:
    """The conversation with what tools said behind the last user turn's text."""
    last = max((at for at, message in enumerate(asked) if message.role == "user"), default=len(asked) - 1)
    content = "\n".join([asked[last].content, *results])
    return [*asked[:last], asked[last].model_copy(update={"content": content}), *asked[last + 1 :]]


def _transcript(calls: Sequence[ToolCall], question: str) -> Messages:
    """Each call as the two turns that the OpenAI API has for it."""
    turns: Messages = []
    for number, call in enumerate(calls):
        function = {"name": call.tool, "arguments": json.dumps({"question": question})}
        request = {"id": f"call_{number}", "type": "function", "function": function}
        told = call.result or json.dumps({"error": call.problem})
        turns += [
            {"role": "assistant", "content": "", "tool_calls": [request]},
            {"role": "tool", "tool_call_id": request["id"], "content": told},
        ]
    return turns
