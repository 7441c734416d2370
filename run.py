"""motif_lite from its own folder: ``python run.py --recipe R``. Installed, the command is ``motif-lite``."""

from motif_lite.starting import start

if __name__ == "__main__":
    start()
