"""`python3 -m environment` with the real venv and pip, on requirements that are small enough to install in a test."""

import ast
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from environment import installer, interpreter, make, parts, state, torch_index
from environment.state import SetupError
from tests.package_index import wheel, write_index

ROOT = Path(__file__).parents[1]
MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"

versions = pytest.mark.versions
cpu_build_is_wanted = pytest.mark.skipif(
    not torch_index.wants_cpu_build(), reason="only Linux without a GPU takes PyTorch's CPU build from its own index"
)


class Project:
    """A project with this one's `environment` folder and small requirements, and the indexes that serve them."""

    def __init__(self, root: Path) -> None:
        self.root = root / "a project"
        shutil.copytree(ROOT / "environment", self.root / "environment", ignore=shutil.ignore_patterns("__pycache__"))
        (self.root / "pyproject.toml").write_text('[project]\nrequires-python = ">=3.11,<3.15"  # here\n')
        (self.root / "requirements-cpu.txt").write_text("torch==9.1.0   # pinned\nneeded==1.0\n")
        (self.root / "requirements-dev.txt").write_text("-r requirements-cpu.txt\nchecker==1.0\n")
        for more in ("logging", "serve", "gym"):
            (self.root / f"requirements-{more}.txt").touch()
        (self.root / "requirements.txt").write_text("unsloth==1.0\nunsloth_zoo==1.0\n")
        ordinary = root / "ordinary"
        cuda = ("torch/lib/libtorch_cuda.so",)
        wheel(ordinary, "torch", "9.1.0", origin="ordinary", files=cuda, needs="needed")
        for name in ("needed", "checker", "another"):
            wheel(ordinary, name, "1.0", origin="ordinary")
        for version in ("1.0", parts.unsloth_packages()["unsloth-on-cpu"][0].partition("==")[2]):
            for name in ("unsloth", "unsloth_zoo"):
                wheel(ordinary, name, version, origin="ordinary")
        wheel(ordinary, "triton", "3.9.0", origin="ordinary")
        self.wheels = root / "wheels"
        wheel(self.wheels, "torch", "9.1.0+cpu", origin="its own", needs="needed")
        wheel(self.wheels, "needed", "1.0", origin="its own")
        self.ordinary = write_index(ordinary)
        self.torch_index = write_index(Path(shutil.copytree(self.wheels, root / "torch index")))

    @property
    def venv(self) -> Path:
        return self.root / ".venv"

    def environment(self, **changes: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_", "PYTHON"))}
        mine = {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": self.ordinary, "PIP_RETRIES": "0", "TORCH_INDEX": ""}
        return kept | mine | {"PIP_NO_CACHE_DIR": "1"} | changes

    def command(self, part: str = "cpu") -> list[str]:
        return [sys.executable, "-m", "environment", part, "--python", sys.executable]

    def make(self, part: str = "cpu", *, fails: bool = False, **changes: str) -> str:
        """Run it; returns all that it printed."""
        done = subprocess.run(
            self.command(part), cwd=self.root, env=self.environment(**changes), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert done.returncode == (2 if fails else 0), done.stdout
        assert "Traceback" not in done.stdout
        return done.stdout

    def origin(self, package: str) -> str:
        code = f"import {package}; print({package}.origin)"
        return subprocess.check_output([self.venv / "bin" / "python", "-c", code], text=True).strip()

    def version(self, package: str) -> str:
        code = f"import importlib.metadata as m; print(m.version({package!r}))"
        return subprocess.check_output([self.venv / "bin" / "python", "-c", code], text=True).strip()


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, str]:
    """A project with a whole environment of part `cpu`, and what was printed; tests share it, for it takes seconds."""
    project = Project(tmp_path_factory.mktemp("made"))
    return project, project.make()


# ------------------------------------------------------------------------------------------ where PyTorch comes from


@versions
@cpu_build_is_wanted
def test_pytorch_alone_comes_from_its_own_index(project: Project) -> None:
    said = project.make(TORCH_INDEX=project.torch_index)
    assert project.version("torch") == "9.1.0+cpu"
    assert project.origin("torch") == "its own"
    assert project.origin("needed") == "ordinary", "what it needs does not"
    assert "CUDA" not in said
    assert ".venv is ready after" in said


@cpu_build_is_wanted
def test_an_index_that_does_not_answer_is_given_up_within_seconds_and_the_price_is_named(project: Project) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        index = f"http://127.0.0.1:{silent.getsockname()[1]}/cpu"
        started = time.monotonic()
        assert not torch_index.answers(index)
        assert time.monotonic() - started < 20, "5, and what a busy machine adds"
        said = project.make(TORCH_INDEX=index)
    assert project.origin("torch") == "ordinary"
    assert "does not answer" in said
    assert "2,540 MB more to fetch, 3,800 MB more on disk" in said


def test_an_index_may_be_a_url_a_folder_laid_out_as_one_or_a_folder_of_wheels(project: Project) -> None:
    assert torch_index.options("https://a.mirror/cpu") == ["--index-url", "https://a.mirror/cpu"]
    folder = project.root.parent / "torch index"
    for index in (str(folder), project.torch_index):
        assert torch_index.options(index) == ["--index-url", project.torch_index]
        assert torch_index.answers(index)
    assert torch_index.options(str(project.wheels)) == ["--no-index", "--find-links", str(project.wheels)]
    assert not torch_index.answers(str(folder / "nothing"))


def test_a_name_that_is_never_resolved_takes_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(*_: object, **__: object) -> list[object]:
        time.sleep(2)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    started = time.monotonic()
    assert not torch_index.answers("http://never.invalid/cpu", seconds=0.3)
    assert time.monotonic() - started < 2


@pytest.mark.parametrize(("script", "expected"), [("echo 'GPU 0: a card'", True), ("exit 9", False), ("true", False)])
def test_the_driver_is_asked_for_a_gpu(
    script: str, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if Path("/dev/nvidia0").exists():
        pytest.skip("this machine has one")
    executable(tmp_path / "nvidia-smi", script)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert torch_index.has_gpu() is expected


# ------------------------------------------------------------------------------------------ what is kept, what is not


@versions
def test_what_is_whole_is_kept_and_what_is_missing_is_added(made: tuple[Project, str]) -> None:
    project, said = made
    assert f"making .venv with Python {MINOR}" in said
    assert "ready after" in said
    created = (project.venv / "pyvenv.cfg").stat().st_mtime_ns
    assert project.make() == ""
    requirements = project.root / "requirements-cpu.txt"
    requirements.write_text(requirements.read_text() + "another==1.0\n")
    assert "completing .venv" in project.make()
    assert project.origin("another") == "ordinary"
    assert (project.venv / "pyvenv.cfg").stat().st_mtime_ns == created, "it was completed, not made again"


def test_what_fails_before_it_changes_anything_leaves_what_was_there(made: tuple[Project, str]) -> None:
    """Somebody without a network runs the tests for the first time: the demo still works."""
    project, _ = made
    with socket.create_server(("127.0.0.1", 0)) as closed:
        index = f"http://127.0.0.1:{closed.getsockname()[1]}"
    said = project.make("dev", fails=True, PIP_INDEX_URL=index, PIP_RETRIES="1")
    assert "the package index was not reached" in said
    assert "All of it: " in said
    assert project.make() == ""
    assert project.origin("torch") == "ordinary"


@versions
def test_tests_need_more_and_unsloth_has_folders_of_its_own(made: tuple[Project, str]) -> None:
    project, _ = made
    said = project.make("unsloth")
    assert project.origin("checker") == "ordinary"
    assert {path.name for path in project.venv.glob("unsloth-*")} == {"unsloth-pinned", "unsloth-on-cpu"}
    assert (project.venv / "unsloth-pinned" / "triton").is_dir()
    assert "two versions of Unsloth" in said
    assert project.make("unsloth") == project.make("dev") == ""


def test_uv_is_left_out_where_pip_is_configured_with_what_it_would_not_see(
    made: tuple[Project, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project, _ = made
    executable(tmp_path / "uv", "exit 1")
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    for name, value in project.environment(PATH=f"{tmp_path}:{os.environ['PATH']}", PIP_FIND_LINKS="").items():
        monkeypatch.setenv(name, value)
    assert installer.Installer(project.venv, installer.Status()).name == "pip"
    monkeypatch.delenv("PIP_INDEX_URL")
    by_uv = installer.Installer(project.venv, installer.Status())
    assert by_uv.name == "uv"
    by_uv.install(["--no-index", "--find-links", str(project.wheels), "needed"])
    assert "uv failed; trying pip" in capsys.readouterr().out
    state.write(project.venv, state.Stamp(str(project.venv), MINOR, {"cpu": parts.digest("cpu")}))


@pytest.mark.parametrize(
    ("stamp", "reason"),
    [
        (None, "its interpreter is gone"),
        (state.Stamp("/elsewhere/.venv", MINOR), "it was moved from /elsewhere/.venv"),
    ],
)
def test_a_defect_is_named(stamp: state.Stamp | None, reason: str, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to("/nowhere/python3")
    if stamp:
        state.write(tmp_path, stamp)
    assert state.defect(tmp_path, f"{MINOR}.0") == reason


@versions
def test_another_python_makes_it_again_and_another_patch_release_does_not(made: tuple[Project, str]) -> None:
    project, _ = made
    assert state.defect(project.venv, f"{MINOR}.99") is None
    assert state.defect(project.venv, "3.99.0") == f"it is of Python {MINOR}, not 3.99"


@versions
def test_an_environment_of_the_users_own_with_its_pytorch_is_completed(project: Project) -> None:
    subprocess.run([sys.executable, "-m", "venv", project.venv], check=True)
    pip = [str(project.venv / "bin" / "python"), "-m", "pip", "install", "--no-deps", "--no-index", "--find-links"]
    subprocess.run(
        [*pip, str(project.wheels), "torch"], check=True, env=project.environment(), stdout=subprocess.DEVNULL
    )
    project.make()
    assert project.origin("torch") == "its own"
    assert project.origin("needed") == "ordinary"


@versions
def test_a_moved_environment_is_made_again(project: Project) -> None:
    project.make()
    was, project.root = project.root, project.root.rename(project.root.with_name("moved"))
    assert f"making .venv again: it was moved from {was}" in project.make()
    assert project.origin("needed") == "ordinary"
    scripts = [path.read_bytes() for path in (project.venv / "bin").glob("pip*")]
    assert not any(str(was).encode() in script for script in scripts)


@contextmanager
def slow_index(project: Project) -> Iterator[str]:
    """An index that lists packages and then never sends one."""
    handler = project.root.parent / "slow.py"
    handler.write_text(
        "import http.server, sys, time\n"
        "class Handler(http.server.SimpleHTTPRequestHandler):\n"
        "    def do_GET(self):\n"
        "        if self.path.endswith('.whl'):\n"
        "            open('asked', 'w').close(); time.sleep(60)\n"
        "        super().do_GET()\n"
        "server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)\n"
        "print(server.server_port, flush=True)\n"
        "server.serve_forever()\n"
    )
    folder = project.root.parent / "ordinary"
    command = [sys.executable, str(handler)]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        try:
            yield f"http://127.0.0.1:{server.stdout.readline().strip()}/"
        finally:
            server.kill()


def interrupted(project: Project, when: Callable[[], bool], **changes: str) -> str:
    """Press Ctrl-C, as a terminal does for the whole group, as soon as a condition holds."""
    with subprocess.Popen(
        project.command(), cwd=project.root, env=project.environment(**changes), text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        deadline = time.monotonic() + 300
        while not when():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGINT)
        said, _ = process.communicate(timeout=600)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    return said


def test_after_ctrl_c_during_a_download_the_same_command_works(project: Project) -> None:
    with slow_index(project) as index:
        asked = project.root.parent / "ordinary" / "asked"
        assert "interrupted" in interrupted(project, asked.exists, PIP_INDEX_URL=index)
    assert "making .venv again: its installation was interrupted" in project.make()
    assert project.origin("needed") == "ordinary"
    assert not (project.venv / "tmp").exists()


def test_after_ctrl_c_while_the_empty_environment_is_made_the_same_command_works(project: Project) -> None:
    interrupted(project, (project.venv / "bin").exists)
    assert "making .venv again: its installation was interrupted" in project.make()
    assert project.origin("needed") == "ordinary"


def test_a_folder_that_is_no_environment_is_left_alone(project: Project) -> None:
    project.venv.mkdir()
    (project.venv / "letters.txt").write_text("mine")
    assert "VENV=" in project.make(fails=True)
    assert (project.venv / "letters.txt").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_environment_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / ".venv").mkdir(mode=0o500)
    with pytest.raises(SetupError, match="sudo chown"):
        state.require_writable(tmp_path / ".venv")


@pytest.mark.parametrize(
    ("printed", "remedy"),
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "make room"),
        ("WARNING: Retrying (Retry(total=4)) ... Temporary failure in name resolution", "check the network"),
        ("SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED]", "global.cert"),
        ("ERROR: No matching distribution found for torch==2.13.0", "no such version"),
        ("error: command '/usr/bin/gcc' failed with exit code 1", "install a C compiler and Python's headers"),
        ("something else", "tries again"),
    ],
)
def test_a_failure_is_shown_with_its_last_lines_and_a_remedy(printed: str, remedy: str, tmp_path: Path) -> None:
    seen = installer._Seen(lines=["the first", *["noise"] * 20, printed])
    said = installer.Installer(tmp_path, installer.Status())._complaint(seen)
    assert printed in said
    assert remedy in said
    assert "the first" not in said


def test_the_stamp_is_written_last_and_names_what_it_was_made_from(tmp_path: Path) -> None:
    (tmp_path / state.MARK).touch()
    state.write(tmp_path, state.Stamp(str(tmp_path), MINOR, {"cpu": parts.digest("cpu")}))
    assert not (tmp_path / state.MARK).exists()
    assert not state.is_outdated(tmp_path, "cpu")
    assert state.is_outdated(tmp_path, "dev")
    (tmp_path / state.STAMP).write_text(json.dumps({"folder": 1}))
    assert state.read(tmp_path) is None


# ------------------------------------------------------------------------------------------ which Python


def executable(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def pythons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts commands onto an otherwise empty PATH that say which Python they are."""

    def put(**versions: str) -> None:
        for name, version in versions.items():
            path = tmp_path / "bin" / (name if name == "python3" else f"python3.{name[1:]}")
            executable(path, f"echo {version}; echo {path}" if version else "exit 127")

    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    return put


def test_python3_is_taken_where_it_fits(pythons: Callable[..., None], tmp_path: Path) -> None:
    pythons(python3="3.11.2", p13="3.13.0")
    assert interpreter.choose("", str(tmp_path / ".venv")).version == "3.11.2"


@pytest.mark.parametrize("python3", ["3.10.4", "3.15.0", ""])
def test_else_the_newest_that_fits_and_that_is_said(
    python3: str, pythons: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pythons(python3=python3, p15="3.15.1", p13="3.13.0", p12="3.12.9", p14="")
    assert interpreter.choose("", str(tmp_path / ".venv")).version == "3.13.0"
    said = capsys.readouterr().out
    assert said.endswith("motif_lite needs Python 3.11 to 3.14; using python3.13 (Python 3.13.0)\n")
    assert python3 in said


def test_pyenvs_are_found_although_no_shim_is_active(pythons: Callable[..., None], tmp_path: Path) -> None:
    pythons(python3="")
    path = tmp_path / "pyenv" / "versions" / "3.12.1" / "bin" / "python3"
    executable(path, f"echo 3.12.1; echo {path}")
    assert interpreter.choose("", str(tmp_path / ".venv")).executable == str(path)


def test_the_one_that_an_environment_was_made_with_goes_first(pythons: Callable[..., None], tmp_path: Path) -> None:
    pythons(python3="3.11.2", p13="3.13.0")
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "pyvenv.cfg").write_text(f"home = x\nexecutable = {tmp_path}/bin/python3.13\n")
    assert interpreter.choose("", str(tmp_path / ".venv")).version == "3.13.0"
    assert interpreter.choose("python3", str(tmp_path / ".venv")).version == "3.11.2"
    (tmp_path / "bin" / "python3.13").unlink()
    assert interpreter.choose("", str(tmp_path / ".venv")).version == "3.11.2"


@pytest.mark.parametrize(
    ("given", "state"), [("p9", "is Python 3.9.1"), ("p15", "is Python 3.15.0"), ("p8", "does no")]
)
def test_a_given_one_that_does_not_fit_is_refused_with_one_that_does(
    given: str, state: str, pythons: Callable[..., None], tmp_path: Path
) -> None:
    pythons(p9="3.9.1", p15="3.15.0", p12="3.12.1")
    with pytest.raises(interpreter.NoInterpreterError) as told:
        interpreter.choose(f"python3.{given[1:]}", str(tmp_path / ".venv"))
    assert state in str(told.value)
    assert "make PYTHON=python3.12" in str(told.value)


def test_where_none_fits_it_is_said_how_to_get_one(pythons: Callable[..., None], tmp_path: Path) -> None:
    pythons(python3="3.10.4")
    with pytest.raises(interpreter.NoInterpreterError, match=r"python3 is Python 3\.10\.4; .* apt install"):
        interpreter.choose("", str(tmp_path / ".venv"))


def test_debians_python_without_venv_is_told_which_package_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(make, "find_spec", lambda name: None)
    with pytest.raises(SetupError, match=rf"sudo apt install python{MINOR}-venv"):
        make._require_venv()


@pytest.mark.parametrize("name", ["__init__", "__main__", "interpreter"])
def test_an_old_python_can_read_what_refuses_it(name: str) -> None:
    ast.parse((ROOT / "environment" / f"{name}.py").read_text(), feature_version=(3, 6))


@versions
def test_the_supported_versions_are_those_of_the_project() -> None:
    oldest, newest = interpreter.supported()
    assert interpreter.fits(f"3.{oldest}.0")
    assert interpreter.fits(f"3.{newest}.9")
    assert not interpreter.fits(f"3.{oldest - 1}.9")
    assert not interpreter.fits(f"3.{newest + 1}.0")
    assert not interpreter.fits("4.12.0")
    assert f"Python 3.{oldest} to 3.{newest}" in (ROOT / "README.md").read_text()
