"""A model behind an OpenAI-compatible server: how it is asked, and how its replies are read."""
