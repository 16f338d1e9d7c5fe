"""Engines: what can be asked of a model. They know nothing of the methods that ask."""
