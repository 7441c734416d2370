"""Makes the environment, or completes it, or leaves it alone; says what it fetches and how long it took.

It runs in the interpreter that the environment is made with; `environment.__main__` has chosen it.
"""

import argparse
import os
import platform
import shutil
import signal
import sys
from importlib.util import find_spec
from pathlib import Path

from environment import parts, state, torch_index
from environment.installer import Installer, Status, clock, megabytes
from environment.parts import ROOT, readable
from environment.state import SetupError, Stamp

TORCH = parts.pin("torch", "requirements-cpu.txt")


def main() -> int:
    """Make the parts that are asked for; 2 if that fails, 130 if it is interrupted."""
    parser = argparse.ArgumentParser(prog="python3 -m environment")
    parser.add_argument("part", choices=[*parts.REQUIREMENTS, "unsloth"])
    parser.add_argument("--folder", default=".venv", type=Path)
    parser.add_argument("--python", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a child would go on
    try:
        provide(options.folder.resolve(), options.part)
    except SetupError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command starts again, with what pip has cached", file=sys.stderr)
        return 130
    return 0


def provide(folder: Path, part: str) -> None:
    """See that an environment is there with all that a part needs.

    Args:
        folder: Absolute.
        part: ``cpu``, ``dev`` or ``unsloth``.

    Raises:
        SetupError: It cannot be made.
    """
    requirements = "dev" if part == "unsloth" else part
    with state.locked(folder):
        is_new = _discard_if_broken(folder)
        if is_new or state.is_outdated(folder, requirements):
            _install_requirements(folder, requirements, is_new=is_new)
        if part == "unsloth":
            _install_unsloth(folder)


def _discard_if_broken(folder: Path) -> bool:
    """Whether an environment is yet to be made; says why, where one is there."""
    if not folder.exists():
        return True
    if not folder.is_dir():
        raise SetupError(f"{folder} is not a folder: remove it, or choose another with VENV=...")
    if not any(folder.iterdir()):
        return True
    reason = state.defect(folder, platform.python_version())
    if reason is None:
        return False
    print(f"making {folder.name} again: {reason}", flush=True)
    state.remove(folder)
    return True


def _install_requirements(folder: Path, part: str, *, is_new: bool) -> None:
    status = Status()
    state.require_writable(folder)
    _require_venv()
    index = _torch_index(folder)
    build = "CPU" if index or not torch_index.wants_cpu_build() else "CUDA"
    size = parts.sizes(part, _build(folder) or build) if is_new or _build(folder) is None else None
    _announce(folder, size, is_new=is_new)
    if is_new:
        Installer(folder, status).make(sys.executable)
    installer = Installer(folder, status)
    if index:
        _install_torch(installer, index)
    fetched = size[0] if size else None
    installer.install(["-r", str(ROOT / parts.REQUIREMENTS[part][0])], megabytes=fetched)
    _note_complete(folder, "cpu", part)
    print(
        f"{folder.name} is ready after {clock(status.seconds)} min: {readable(megabytes(folder))} on disk", flush=True
    )


def _torch_index(folder: Path) -> str | None:
    """The index that has PyTorch's CPU build, where that is wanted; says so where it does not answer."""
    index = os.environ.get("TORCH_INDEX", "").strip()
    if not index or _build(folder) is not None or not torch_index.wants_cpu_build():
        return None
    if torch_index.answers(index):
        return index
    print(f"{torch_index.without_password(index)} does not answer; {_price_of_cuda()}", flush=True)
    return None


def _price_of_cuda() -> str:
    (fetched, on_disk), (more_fetched, more_on_disk) = parts.SIZES["CPU"], parts.SIZES["CUDA"]
    return (
        f"PyTorch comes from the package index, as a CUDA build on most machines: about {more_fetched - fetched:,} MB "
        f"more to fetch, {more_on_disk - on_disk:,} MB more on disk (TORCH_INDEX=... names another index)"
    )


def _build(folder: Path) -> str | None:
    """The build of the pinned PyTorch that an environment has; None where it has not that version."""
    names = [found.name for found in folder.glob("lib/python3*/site-packages/torch-*.dist-info")]
    if not {f"torch-{TORCH}.dist-info", *(name for name in names if name.startswith(f"torch-{TORCH}+"))} & {*names}:
        return None
    return "CUDA" if any(folder.glob("lib/python3*/site-packages/torch/lib/libtorch_cuda.so")) else "CPU"


def _install_torch(installer: Installer, index: str) -> None:
    """PyTorch alone from its own index: all that it needs comes from the ordinary one, as everything else does."""
    try:
        installer.install(["--no-deps", *torch_index.options(index), f"torch=={TORCH}"])
    except SetupError as error:
        print(f"{index}: {error}\n{_price_of_cuda()}", flush=True)


def _install_unsloth(folder: Path) -> None:
    """Each version into a folder of its own, which is made again whenever it is not complete."""
    missing = {name: packages for name, packages in parts.unsloth_packages().items() if state.is_outdated(folder, name)}
    if not missing:
        return
    state.require_writable(folder)
    status = Status()
    fetched, on_disk = parts.UNSLOTH_SIZE
    print(
        f"two versions of Unsloth for tests: about {readable(fetched)} to fetch, {readable(on_disk)} on disk",
        flush=True,
    )
    installer = Installer(folder, status)
    for name, packages in missing.items():
        shutil.rmtree(folder / name, ignore_errors=True)
        target = ["--no-deps", "--target", str(folder / name), *packages]
        installer.install(target, megabytes=fetched // len(parts.unsloth_packages()), changes_packages=False)
        _note_complete(folder, name)
    print(f"ready after {clock(status.seconds)} min", flush=True)


def _announce(folder: Path, size: tuple[int, int] | None, *, is_new: bool) -> None:
    """Say what is about to happen, and whether the disk has room for it."""
    what = f"making {folder.name} with Python {platform.python_version()}" if is_new else f"completing {folder.name}"
    much = f"; about {readable(size[0])} to fetch, less what is cached; {readable(size[1])} on disk" if size else ""
    print(f"{what} ({sys.executable}){much}" if is_new else f"{what}{much}", flush=True)
    if os.geteuid() == 0 and ROOT.stat().st_uid != 0:
        print(f"note: you are root, and so {folder.name} will belong to root", flush=True)
    room = shutil.disk_usage(folder if folder.exists() else folder.parent).free / 1e6
    if size and room < size[1]:
        print(
            f"note: only {readable(room)} are free in {folder.parent}; VENV=/another/disk puts it elsewhere", flush=True
        )


def _require_venv() -> None:
    if find_spec("ensurepip") is None or find_spec("venv") is None:
        minor = ".".join(platform.python_version_tuple()[:2])
        raise SetupError(
            f"Python {minor} ({sys.executable}) comes without venv, as Debian and Ubuntu ship it: "
            f"sudo apt install python{minor}-venv; then the same command"
        )


def _note_complete(folder: Path, *names: str) -> None:
    stamp = state.read(folder) or Stamp(str(folder), ".".join(platform.python_version_tuple()[:2]))
    stamp.digests |= {name: parts.digest(name) for name in names}
    state.write(folder, stamp)


if __name__ == "__main__":
    sys.exit(main())
