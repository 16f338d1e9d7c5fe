"""The reader: a verdict read at ask tokens after the closed answer of a frozen model."""
