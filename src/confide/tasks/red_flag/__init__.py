"""Red flags: prompts, forced openings, and a rule that says which outputs are harmful."""

__all__ = ["harmless", "prompt_groups", "red_flag_task", "shared_prompts"]
