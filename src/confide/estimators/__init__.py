"""Ways to get a confidence, one a module."""
