"""The portable confidence: learned from records alone, without opening the model."""
