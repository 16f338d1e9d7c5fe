"""The OpenAI-compatible router, its store, its monitor and its dashboard."""
