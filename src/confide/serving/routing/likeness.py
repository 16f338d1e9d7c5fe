"""Is a request, and the model that answers it, what the policy was made for?"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from confide.engines.openai.asked import Asked
from confide.engines.openai.reply import Reply
from confide.errors import ConfideError
from confide.policies.identities import identity_parts, same_model
from confide.policies.policy import Policy
from confide.policies.policy_part import Part
from confide.policies.requests import request_of, unlike
from confide.records import RequestShape
from confide.serving.config import ServeConfig, SmallLocal
from confide.serving.routing.in_process import conversation
from confide.serving.store.tables import OTHER_MODEL

if TYPE_CHECKING:
    from confide.methods.confidence_model import ConfidenceModel

log = logging.getLogger("confide.serving")

_REPORTED = frozenset({"model", "fingerprint", "root", "owner"})


class Likeness:
    """Compares requests and answers with what a policy knows of its calibration rows.

    Args:
        config: the configuration; of it the small model and ``accept_model`` are used here.
        policy: the policy (None: nothing is promised, so nothing is unlike it).
        model: the small model, if it runs in this process.
    """

    def __init__(self, config: ServeConfig, policy: Policy | None, model: ConfidenceModel | None = None):
        self._config = config
        self._policy = policy
        self._requests = policy.profile.requests if policy and policy.profile else None
        self._model = model

    def shape(self, asked: Asked) -> RequestShape:
        """What can be seen of a request, as the small model is asked it."""
        limit, options, messages = asked.max_tokens or 0, asked.options, asked.messages
        if self._model is not None and isinstance(self._config.small, SmallLocal):
            plain = self._model.as_asked(conversation(messages))
            leading = [message.model_dump() for message in plain[:-1]]
            messages = [*leading, {**messages[-1], "content": messages[-1]["content"] or ""}]
            limit = (limit or self._config.small.max_tokens) + self._model.room
            options = {"temperature": 0, **options}
        return request_of(messages, options, limit)

    def unlike(self, shape: RequestShape, asked: Asked, small: Reply | None, part: Part | None = None) -> list[str]:
        """In what a request, or the model that answered it, is unlike what the ``part`` that decides was made for."""
        if self._policy is None:
            return []
        found = unlike(self._requests, shape, asked.domain, small.completion_tokens if small and asked.n == 1 else 0)
        other = small is not None and part is not None and self.is_other(small.identity, part)
        return [OTHER_MODEL, *found] if other else found

    def is_other(self, identity: str, part: Part) -> bool:
        """Whether an identity is known not to be that of a ``part`` of the policy, nor accepted for it."""
        accepted = self._config.accept_model
        return same_model(part.identity, identity) is False and not (accepted and same_model(accepted, identity))

    def check_start(self, identity: str, exports: Mapping[str, str] | None = None) -> None:
        """Refuse a policy that was made for another model, as far as can be told before the first answer.

        Raises `ConfideError`, which names the word that overrides. Where nothing can be told, the log says so.

        Args:
            identity: what is known of the small model.
            exports: source to the identity of what was exported to give it.
        """
        policy, small = self._policy, self._config.small
        if policy is None:
            return
        for part in policy.parts:
            for known in (identity, (exports or {}).get(part.source, "")):
                if self.is_other(known, part):
                    raise ConfideError(
                        f"the policy on {part.source} was made for another model ({part.identity}) than the small "
                        f"model {small.name} ({known}): calibrate on its own answers, or write accept_model: "
                        f'"{known}" into the configuration to take it for the same'
                    )
        told = identity_parts(identity).keys() | (set() if isinstance(small, SmallLocal) else _REPORTED)
        if not policy.identity:
            log.warning("the policy on %s knows no identity of its model: another would not be noticed", policy.source)
        elif not told & identity_parts(policy.identity).keys():
            log.warning(
                "whether %s is the model of the policy on %s (%s) cannot be told",
                small.name,
                policy.source,
                policy.identity,
            )
