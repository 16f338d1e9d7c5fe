"""Self-REF: the model writes its verdict right after its answer."""
