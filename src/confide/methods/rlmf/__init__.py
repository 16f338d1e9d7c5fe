"""RLMF: a model is trained to state how often it would give the same answer again."""
