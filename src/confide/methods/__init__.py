"""Methods: ways to get a confidence, each with its training and its reading side by side."""
