"""The stack: a probe of the model's states and what tokens tell for free, mixed by familiarity."""
