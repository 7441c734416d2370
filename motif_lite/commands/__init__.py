"""Commands with a name of their own: options to one call of a job, and what is printed of it."""
