"""``python -m motif_lite``: the command line."""

from motif_lite.starting import start

start()
