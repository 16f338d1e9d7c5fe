"""Readings along an answer: a signal read while the answer is written."""
