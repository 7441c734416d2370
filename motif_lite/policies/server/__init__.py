"""A model that a server has loaded, behind an OpenAI-compatible API: it can be evaluated and asked, not trained."""
