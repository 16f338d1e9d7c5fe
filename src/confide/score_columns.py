"""Which columns of another system's table hold what. Verbs make flags of it, so it imports nothing that takes time."""

from __future__ import annotations

from dataclasses import dataclass, field
from shlex import quote


@dataclass(frozen=True)
class ScoreColumns:
    """Which columns of a file hold what; nothing named: the file holds records, with ``id, confidence, correct``."""

    confidence_column: str | None = field(
        default=None, metadata={"help": "The column of confidences, if not `confidence`; a,b: each is a source."}
    )
    correct_column: str | None = field(
        default=None, metadata={"help": "The column of labels (1/0, true/false, yes/no), if not `correct`."}
    )
    id_column: str | None = field(
        default=None, metadata={"help": "The column of ids, if not `id`; without either, rows are numbered."}
    )

    @property
    def named(self) -> bool:
        """Whether any column is named."""
        return any((self.confidence_column, self.correct_column, self.id_column))

    @property
    def sources(self) -> list[str]:
        """The columns of confidences, in their order; none where none is named."""
        return [name.strip() for name in (self.confidence_column or "").split(",") if name.strip()]

    @property
    def given(self) -> dict[str, str]:
        """The columns that are named, by what they hold."""
        return {name: value for name, value in vars(self).items() if value}

    def flags(self) -> str:
        """The flags that name these columns, as a shell needs them; empty where none is named.

        >>> ScoreColumns(confidence_column="my score", id_column="row").flags()
        "--confidence-column 'my score' --id-column row "
        """
        return "".join(f"--{name.replace('_', '-')} {quote(value)} " for name, value in self.given.items())
