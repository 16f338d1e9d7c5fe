"""Red-flag tokens (arXiv 2502.16366): a model learns to write a flag when its answer turns harmful."""
