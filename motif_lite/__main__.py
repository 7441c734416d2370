"""``python -m motif_lite``: the command line."""

from motif_lite.cli import start

start()
