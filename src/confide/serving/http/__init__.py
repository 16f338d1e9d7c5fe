"""The HTTP side of the router: who may come in, what they send, what they get, the dashboard."""
