"""What the methods that train a model share: rows, loss, adapter, checkpoints."""
