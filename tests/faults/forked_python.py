"""The Python of processes that the nursery made: ``python -IS tests/faults/forked_python.py SOCKET ARGUMENT...``.

A program of ours is forked by the nursery, with this process's streams, folder and environment. This process passes
signals on to it and ends as it does. Anything else is run by the real Python in place of this process.
"""

import json
import os
import signal
import socket
import sys


def main(place: str, arguments: list[str]) -> None:
    """Run Python with these arguments."""
    if not (arguments[:1] == ["-m"] or (arguments and arguments[0].endswith("run.py"))):
        os.execv(sys.executable, [sys.executable, *arguments])
    with socket.socket(socket.AF_UNIX) as nursery:
        nursery.connect(place)
        folder = os.getcwd()  # noqa: PTH109  # importing pathlib takes longer than all else here
        request = {"arguments": arguments, "folder": folder, "environment": dict(os.environ)}
        socket.send_fds(nursery, [json.dumps(request).encode() + b"\n"], [0, 1, 2])
        answers = nursery.makefile()
        pid = int(answers.readline())
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, lambda number, frame: os.kill(pid, number))
        code = int(answers.readline())
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
