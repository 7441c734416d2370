"""Memory and time: what a recipe needs, whether it fits, and what was measured."""
