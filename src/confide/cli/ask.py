"""``confide ask``: one question, its answer, a confidence, and what to do with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from confide.cli.engines import DEFAULT_MODEL, EngineName, PortableFolder, load_model
from confide.cli.flags import ChatTemplateKwargs, Flags, Json, parse_mapping
from confide.cli.last_lines import tell_next
from confide.cli.printing import print_json, warn
from confide.engines.openai.endpoint_config import EndpointConfig
from confide.errors import ConfideError

if TYPE_CHECKING:
    from confide.methods.confidence_model import Answer
    from confide.parts.answer_part import AnswerPart
    from confide.policies.policy import Policy
    from confide.policies.ruling import Ruling


def ask(
    endpoint: Annotated[EndpointConfig, Flags()],
    question: Annotated[str | None, Argument(help="What to ask.", show_default=False)] = None,
    model: Annotated[str, Option(help="Trained folder, any model, or what the server calls it.")] = DEFAULT_MODEL,
    messages: Annotated[
        Path | None, Option(help="Ask a conversation instead: a JSON file with its turns, the user's last.")
    ] = None,
    engine: EngineName = "transformers",
    portable: PortableFolder = None,
    policy: Annotated[Path | None, Option(help="Policy that turns the confidence into a decision.")] = None,
    max_new_tokens: Annotated[int, Option(min=1, help="Room for the answer and the reasoning before it.")] = 32,
    chat_template_kwargs: ChatTemplateKwargs = None,
    fields: Annotated[
        bool, Option("--fields", help="Also each value of the answer's JSON, with its confidence.")
    ] = False,
    claims: Annotated[bool, Option("--claims", help="Also each sentence of the answer, with its confidence.")] = False,
    json: Json = False,
) -> None:
    """Ask one question.

    Example: `confide ask --model runs/reader --policy policy.json "In which country is Lyon?"`
    """
    from confide.policies.policy import Policy
    from confide.tasks.conversations import read_conversation

    if (question is None) == (messages is None):
        raise ConfideError("give a question, or a conversation with --messages")
    asked = read_conversation(messages) if messages else str(question)
    if isinstance(asked, str) and not asked.strip():
        raise ConfideError("the question is empty")
    loaded_policy = Policy.load(policy) if policy else None
    template = parse_mapping(chat_template_kwargs)
    loaded = load_model(engine, endpoint, model, portable=portable, chat_template_kwargs=template)
    wanted = {name: True for name, on in (("fields", fields), ("claims", claims)) if on}
    if wanted and engine != "transformers":
        raise ConfideError("--fields and --claims are for a model in this process; the router tells those of servers")
    answer = loaded.answer(asked, max_new_tokens=max_new_tokens, **wanted)
    ruling = None if loaded_policy is None else _ruling(loaded_policy, answer, loaded.identity)
    told = {"confidence": answer.confidence, "source": answer.source, "calibrated": False}
    data: dict[str, object] = {
        "answer": answer.text,
        **(told if ruling is None else _in_units(ruling)),
        "familiarity": answer.familiarity,
        "finish": answer.finish,
    }
    if answer.reasoning is not None:
        data["reasoning"] = answer.reasoning
    if loaded_policy is not None:
        data["policy_id"] = loaded_policy.id
    parts = {name: [_told(part) for part in getattr(answer, name)] for name in wanted}
    data |= parts
    if json:
        print_json(data)
    else:
        _print(data, ruling, [part for some in parts.values() for part in some])
        if model == DEFAULT_MODEL and engine == "transformers":
            tell_next("confide demo --quick", comment="teach it to say how sure it is")


def _print(data: Mapping[str, Any], ruling: Ruling | None, parts: Sequence[Mapping[str, Any]]) -> None:
    """Print the answer, a line of what is known of it, and a line for each part."""
    typer.secho(data["answer"], bold=True)
    source, confidence = data["source"], data["confidence"]
    words = [f"{source} {confidence:.2f}" if confidence is not None else "no confidence"]
    if ruling is not None:
        words = [ruling.explain(), f"decision {ruling.decision}" + (f" by {ruling.source}" if ruling.source else "")]
    if data["finish"] == "length":
        words.append("cut at the token limit: --max-new-tokens gives more room")
    if data["familiarity"] is not None:
        words.append(f"familiarity {data['familiarity']:.2f}")
    typer.secho(" · ".join(words), dim=True)
    if ruling is None and confidence is not None:
        typer.secho(
            f"{source}'s own number, not calibrated: `confide calibrate` on graded answers makes a policy, and "
            "--policy turns it into the probability that the answer is right.",
            dim=True,
        )
    for part in parts:
        sure = "no confidence" if part["confidence"] is None else f"{part['source']} {part['confidence']:.2f}"
        typer.echo(f"  {part['name']}: {part['value']}  ({sure})")


def _told(part: AnswerPart) -> dict[str, Any]:
    """A part as it is printed."""
    return {"name": part.name, "value": part.value, "confidence": part.confidence, "source": part.source}


def _ruling(policy: Policy, answer: Answer, identity: str) -> Ruling:
    """What ``policy`` makes of an ``answer`` of the model with this ``identity``, as the router and `decide` would."""
    from confide.policies.identities import same_model
    from confide.policies.ruling import Ruling
    from confide.signals import along_signals

    if not answer.sources.keys() & set(policy.sources):
        raise ConfideError(
            f"the policy decides on {' or '.join(policy.sources)}, which this model does not give with an answer; "
            f"it gives {', '.join(answer.sources)}"
        )
    whole = answer.finish == "stop" and answer.text.strip()
    given = {name: raw for name, raw in answer.sources.items() if whole or name in along_signals()}
    ruling = Ruling.of(policy, given)
    if same_model(ruling.part.identity, identity) is False:
        warn(f"the policy was made for {ruling.part.identity}, this model is {identity}: nothing is promised")
    return ruling


def _in_units(ruling: Ruling) -> dict[str, object]:
    """A ruling under the names that the router's field has."""
    return {
        "confidence": ruling.confidence,
        "raw": ruling.raw,
        "source": ruling.source,
        "calibrated": ruling.confidence is not None,
        "threshold": ruling.threshold,
        "decision": ruling.decision,
    }
