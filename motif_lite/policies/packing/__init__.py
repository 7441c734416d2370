"""Rows of an update that begin alike, packed so that what they share is computed once."""
