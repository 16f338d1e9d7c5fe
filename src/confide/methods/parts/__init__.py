"""The confidence of parts of answers: what one generation tells of every field or claim."""
