"""Readings inside an answer: what they cost, and what they are worth."""
