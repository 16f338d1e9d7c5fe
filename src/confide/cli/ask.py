"""``confide ask``: one question, its answer, a confidence, and what to do with it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from confide.cli.engines import EngineName, load_model
from confide.cli.flags import ChatTemplateKwargs, Flags, parse_mapping
from confide.cli.printing import print_json, warn
from confide.engines.openai.endpoint_config import EndpointConfig
from confide.errors import ConfideError


def ask(
    model: Annotated[str, Option(help="Trained folder, any model, or what the server calls it.")],
    endpoint: Annotated[EndpointConfig, Flags()],
    question: Annotated[str | None, Argument(help="What to ask.")] = None,
    messages: Annotated[
        Path | None, Option(help="Ask a conversation instead: a JSON file with its turns, the user's last.")
    ] = None,
    engine: EngineName = "transformers",
    policy: Annotated[Path | None, Option(help="Policy that turns the confidence into a decision.")] = None,
    max_new_tokens: Annotated[int, Option(min=1, help="Room for the answer and the reasoning before it.")] = 32,
    chat_template_kwargs: ChatTemplateKwargs = None,
    json: Annotated[bool, Option("--json", help="Machine-readable output.")] = False,
) -> None:
    """Ask one question.

    Example: `confide ask --model runs/reader --policy policy.json "In which country is Lyon?"`
    """
    from confide.policies.identities import same_model
    from confide.policies.policy import Policy
    from confide.tasks.conversations import read_conversation

    if (question is None) == (messages is None):
        raise ConfideError("give a question, or a conversation with --messages")
    asked = read_conversation(messages) if messages else str(question)
    if isinstance(asked, str) and not asked.strip():
        raise ConfideError("the question is empty")
    loaded_policy = Policy.load(policy) if policy else None
    loaded = load_model(engine, endpoint, model, chat_template_kwargs=parse_mapping(chat_template_kwargs))
    answer = loaded.answer(asked, max_new_tokens=max_new_tokens)
    if loaded_policy and loaded_policy.source not in answer.sources:
        raise ConfideError(
            f"the policy decides on {loaded_policy.source}, which this model does not give with an answer; "
            f"it gives {', '.join(answer.sources)}"
        )
    if loaded_policy and same_model(loaded_policy.identity, loaded.identity) is False:
        warn(f"the policy was made for {loaded_policy.identity}, this model is {loaded.identity}: nothing is promised")
    data: dict[str, object] = {
        "answer": answer.text,
        "confidence": answer.confidence,
        "source": answer.source,
        "familiarity": answer.familiarity,
        "finish": answer.finish,
    }
    if answer.reasoning is not None:
        data["reasoning"] = answer.reasoning
    if loaded_policy:
        raw = answer.sources.get(loaded_policy.source)
        data["probability"] = None if raw is None else loaded_policy.probability(raw)
        data["decision"] = loaded_policy.decide(raw)
    if json:
        print_json(data)
        return
    typer.secho(answer.text, bold=True)
    parts = [f"{answer.source} {answer.confidence:.2f}" if answer.confidence is not None else "no confidence"]
    if answer.familiarity is not None:
        parts.append(f"familiarity {answer.familiarity:.2f}")
    if "decision" in data:
        parts.append(f"decision {data['decision']}")
    typer.secho(" · ".join(parts), dim=True)
