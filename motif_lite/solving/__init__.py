"""Answering questions in rounds with a model as it is: nothing is trained or measured."""
