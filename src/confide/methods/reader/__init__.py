"""The reader: an adapter with which a frozen model reads its closed answer again."""
