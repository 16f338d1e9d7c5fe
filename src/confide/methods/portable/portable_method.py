"""The source ``portable``: learned from graded records alone, to be had wherever log-probabilities are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from confide.methods.method import Column, Method, Scope, check_answered_by, or_nan
from confide.methods.portable.mixture import told
from confide.methods.portable.portable_file import PORTABLE
from confide.methods.portable_confidence import PortableConfidence
from confide.records import Record


class Portable(Method):
    """The method of ``portable``; trained by ``confide train portable`` and beside every stack. It costs nothing."""

    name = "portable"
    sources = (PORTABLE,)

    def available(self, scope: Scope) -> Sequence[str]:
        """Where there is a trained one of the model that answered, and log-probabilities for it to read."""
        if scope.other_model and scope.portable is None:
            return ()
        return self.sources if _file(scope) is not None and told(scope.records).any() else ()

    def fit(self, scope: Scope) -> None:
        """Take what was trained; raises `ConfideError` where another model answered than the one it learned from."""
        file = _file(scope)
        assert file is not None
        check_answered_by(
            scope.records, [file.model], [file.identity], "a portable confidence knows one model's answers"
        )
        self.file_ = file
        self.scored_by = file.scored_by

    def read(self, records: Sequence[Record]) -> Mapping[str, Column]:
        """One column [n]; that of a model which was trained on shuffled labels says so."""
        model = self.scope_.model
        name = PORTABLE if self.scope_.portable is not None or model is None else model.named(PORTABLE)
        return {name: Column(or_nan(self.file_.confidences(records, self.scope_.new)))}


def _file(scope: Scope) -> PortableConfidence | None:
    """What was trained: the file that was named, or what lies beside the model at hand."""
    return scope.portable or (None if scope.model is None else scope.model.portable)
