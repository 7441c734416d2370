"""Makes the Python environment that `make` runs everything in, with the standard library alone.

    python3 -m environment cpu          what `make demo` needs
    python3 -m environment dev          the same and what tests and checks need
    python3 -m environment unsloth      the same and both versions of Unsloth that the tests use

`interpreter` chooses a Python and starts `make` with it. What is there and whole is kept.
"""
