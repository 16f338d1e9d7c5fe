"""The reader: an adapter, or ask tokens, that read the closed answer of a frozen model."""
