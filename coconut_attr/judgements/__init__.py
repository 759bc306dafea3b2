"""Judgements: what people, or AI models, who looked at a photo say of its attributes."""
