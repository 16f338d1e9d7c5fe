"""Training: the reader, its stack, and Self-REF."""
