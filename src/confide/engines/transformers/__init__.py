"""The engine for a Hugging Face model in this process."""
