"""An OpenAI-compatible endpoint that thinks in rounds."""
