"""What a command line asks for, from a recipe to its results."""
