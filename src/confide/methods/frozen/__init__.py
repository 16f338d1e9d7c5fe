"""A frozen model, what is trained on top of it (stack, probes, readers), and the methods that read it."""
