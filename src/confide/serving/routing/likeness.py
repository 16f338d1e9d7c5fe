"""Is a request, and the model that answers it, what the policy was made for?"""

from __future__ import annotations

import logging
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
        return [OTHER_MODEL, *found] if small is not None and self.is_other(small.identity, part) else found

    def is_other(self, identity: str, part: Part | None = None) -> bool:
        """Whether an identity is known not to be that of a ``part`` of the policy, nor accepted for it.

        None: of any part.
        """
        policy, accepted = self._policy, self._config.accept_model
        parts = [part] if part is not None else policy.parts if policy is not None else []
        if all(same_model(one.identity, identity) is not False for one in parts):
            return False
        return not (accepted and same_model(accepted, identity))

    def check_start(self, identity: str) -> None:
        """Refuse a policy that was made for another model, as far as ``identity`` tells before the first answer.

        Raises `ConfideError`, which names the word that overrides. Where nothing can be told, the log says so.
        """
        policy, small = self._policy, self._config.small
        if policy is None:
            return
        if self.is_other(identity):
            made_for = next(part.identity for part in policy.parts if same_model(part.identity, identity) is False)
            raise ConfideError(
                f"the policy was made for another model ({made_for}) than the small model {small.name} "
                f'({identity}): calibrate on its own answers, or write accept_model: "{identity}" into the '
                "configuration to take it for the same"
            )
        known = identity_parts(identity).keys() | (set() if isinstance(small, SmallLocal) else _REPORTED)
        if not policy.identity:
            log.warning("the policy knows no identity of its model, so another model would not be noticed")
        elif not known & identity_parts(policy.identity).keys():
            log.warning("whether %s is the model of the policy (%s) cannot be told", small.name, policy.identity)
