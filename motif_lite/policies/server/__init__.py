"""A model behind an OpenAI-compatible API, to be evaluated and asked; and replies from one for a model trained here."""
