"""Chooses the interpreter and starts `make` with it; runs on any Python from 3.6, so it avoids newer syntax."""

import argparse
import os
import sys

from environment import interpreter


def main() -> int:
    """Hand over to the chosen Python; returns only if there is none."""
    parser = argparse.ArgumentParser(prog="python3 -m environment")
    parser.add_argument("part", help="cpu, dev or unsloth")
    parser.add_argument("--folder", default=".venv", help="where the environment is made")
    parser.add_argument("--python", default="", help="the interpreter to use; by default one that fits is looked for")
    options = parser.parse_args()
    try:
        found = interpreter.choose(options.python, options.folder)
    except interpreter.NoInterpreterError as error:
        print("error: {}".format(error), file=sys.stderr)
        return 2
    arguments = [options.part, "--folder", options.folder, "--python", options.python]
    sys.stdout.flush()
    os.execv(found.executable, [found.executable, "-m", "environment.make"] + arguments)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
