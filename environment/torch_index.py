"""Where PyTorch comes from: its CPU build on Linux without a GPU, whose package index would serve a CUDA build."""

import http.client
import os
import platform
import shutil
import ssl
import subprocess
import threading
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

_SECONDS_TO_ANSWER = 5.0


def wants_cpu_build() -> bool:
    """Whether the package index would serve a CUDA build to a machine that has no use for it."""
    return platform.system() == "Linux" and not has_gpu()


def has_gpu() -> bool:
    """Whether there is an NVIDIA GPU, as its driver or the kernel tells."""
    if Path("/dev/nvidia0").exists() or any(Path("/proc/driver/nvidia/gpus").glob("*")):
        return True
    tool = shutil.which("nvidia-smi") or shutil.which("nvidia-smi", path="/usr/lib/wsl/lib")
    if tool is None:
        return False
    try:
        done = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0 and "GPU " in done.stdout


def answers(index: str, seconds: float = _SECONDS_TO_ANSWER) -> bool:
    """Whether an index is there: a folder that exists, or a server that says anything within a few seconds.

    An error that it answers with counts as an answer: pip knows proxies' certificates and passwords, and we do not.
    """
    if folder := _as_folder(index):
        return folder.is_dir()
    heard, url = threading.Event(), f"{without_password(index).rstrip('/')}/torch/"

    def listen() -> None:
        try:
            with urllib.request.urlopen(url, timeout=seconds):
                heard.set()
        except urllib.error.HTTPError:
            heard.set()
        except urllib.error.URLError as error:
            if isinstance(error.reason, ssl.SSLError):
                heard.set()
        except (OSError, ValueError, http.client.HTTPException):
            pass

    # Resolving a name knows no time limit, so it is waited for in a thread.
    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    listener.join(seconds)
    return heard.is_set()


def without_password(index: str) -> str:
    """The address without a user's name and password: urllib does not know them, and nobody should see them."""
    url = urlsplit(index)
    return urlunsplit(url._replace(netloc=url.netloc.rpartition("@")[2]))


def options(index: str) -> list[str]:
    """Options of pip and uv to take packages from an index: a URL, a folder laid out as one, or a folder of wheels."""
    folder = _as_folder(index)
    if folder is None:
        return ["--index-url", index]
    if (folder / "torch" / "index.html").exists():
        return ["--index-url", folder.absolute().as_uri()]
    wheels = folder / "torch" if (folder / "torch").is_dir() else folder
    return ["--no-index", "--find-links", str(wheels.absolute())]


def _as_folder(index: str) -> Path | None:
    """The folder that an index names; None where it is a URL of a server."""
    url = urlsplit(index)
    if url.scheme == "file":
        return Path(unquote(url.path))
    return None if url.scheme and url.netloc else Path(os.path.expanduser(index))  # noqa: PTH111  # may be a URL
