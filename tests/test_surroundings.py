"""The program in odd surroundings: closed streams, a locale of another encoding, Python without docstrings."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from motif_lite.errors import RunError
from motif_lite.jobs import session
from motif_lite.runs.directory import RunDirectory
from tests.fakes import RecordingObserver

ROOT = Path(__file__).parents[1]
CHECK = ["--recipe", str(ROOT / "recipes" / "tiny_cpu.toml"), "--check"]


def shell(redirections: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    words = " ".join(f"'{word}'" for word in (sys.executable, str(ROOT / "run.py"), *arguments))
    return subprocess.run(
        ["sh", "-c", f"{words} {redirections}"],
        capture_output=True, text=True, check=False, timeout=120, env=os.environ | environment,
    )  # fmt: skip


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_stream_that_is_closed_is_no_error(closed: str) -> None:
    done = shell(closed, *CHECK)
    assert (done.returncode, done.stderr) == (0, "")


def test_output_that_a_full_disk_does_not_take_is_an_error_and_a_closed_pipe_is_none() -> None:
    done = shell("> /dev/full", *CHECK)
    assert done.returncode == 2
    assert done.stderr.startswith("error: standard output: cannot be written (No space left on device)")
    closed = shell("| head -n 1", *CHECK)
    assert (closed.stdout.count("\n"), closed.stderr) == (1, "")


def test_a_working_directory_that_is_gone_is_refused(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    words = f"cd '{gone}' && rmdir '{gone}' && exec '{sys.executable}' '{ROOT / 'run.py'}' --dry-run"
    done = subprocess.run(["sh", "-c", words], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2
    assert done.stderr.startswith("error: the working directory cannot be used")
    assert done.stderr.count("\n") == 1


def test_a_mistake_has_its_exit_code_where_nobody_reads_it() -> None:
    assert shell(">&- 2>&-", "--recipe", "gone.toml").returncode == 2


def test_a_file_that_is_opened_later_does_not_become_standard_output(tmp_path: Path) -> None:
    code = (
        "import os, sys; from motif_lite import process; process._open_closed_streams(); "
        f"file = open({str(tmp_path / 'file')!r}, 'w'); os.write(1, b'x'); print('y', flush=True); file.close()"
    )
    done = subprocess.run(["sh", "-c", f'"{sys.executable}" -c "{code}" >&-'], cwd=ROOT, check=False)
    assert done.returncode == 0
    assert (tmp_path / "file").read_text() == ""


def test_python_without_docstrings_is_refused() -> None:
    done = shell("", *CHECK, PYTHONOPTIMIZE="2")
    assert done.returncode == 2
    assert done.stderr == "error: Python runs without docstrings (-OO); unset PYTHONOPTIMIZE, or set it to 1\n"


def test_in_a_locale_of_another_encoding_files_are_utf8(tmp_path: Path) -> None:
    """Libraries open files by the locale: the first checkpoint's model card ended a run."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\nfrom motif_lite import process\nprocess._in_utf8()\n"
        f"open({str(tmp_path / 'card')!r}, 'w').write('\\u03c0')\nprint(sys.argv[1])\n"
    )
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(script), "an argument"], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "an argument\n"
    assert (tmp_path / "card").read_bytes() == "\u03c0".encode()


def test_bytes_of_standard_input_that_are_no_text_lose_no_line() -> None:
    code = "import sys; from motif_lite import process; process._read_any_bytes(); print(ascii(sys.stdin.readlines()))"
    done = subprocess.run(
        [sys.executable, "-c", code], input=b"1+1?\n\xff\n2+2?\n", capture_output=True, check=False, cwd=ROOT,
        env=os.environ | {"PYTHONIOENCODING": "utf-8:strict"},
    )  # fmt: skip
    assert done.stdout == b"['1+1?\\n', '\\udcff\\n', '2+2?\\n']\n", done.stderr


# ----------------------------------------------------------------------------------- what breaks in the middle of it


@contextmanager
def conducted(folder: Path) -> Iterator[None]:
    with session.conducted(RecordingObserver(), folder, lambda: "to continue: ..."):
        yield


def test_a_folder_that_was_removed_meanwhile_is_named(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    with pytest.raises(RunError, match=r"run: was removed while the run worked in it"), conducted(run.root):
        run.append_rollouts([])


def because(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
        RuntimeError("can't start new thread"),
        OSError(12, "Cannot allocate memory"),
        RuntimeError("could not create a primitive"),
        because(
            RuntimeError("Failed to import trl.trainer.grpo_trainer (look up to see its traceback)"), MemoryError()
        ),
    ],
)
def test_a_lack_of_memory_is_told_in_one_line(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(RunError, match="the system gives this process no more memory"), conducted(tmp_path):
        raise error


def test_other_errors_are_not_taken_for_these(tmp_path: Path) -> None:
    for error in (
        RuntimeError("a mistake of ours"),
        FileNotFoundError(2, "No such file or directory", "x"),
        because(RuntimeError("could not create a primitive descriptor for a matmul primitive"), ValueError("x")),
    ):
        with pytest.raises(type(error)), conducted(tmp_path):
            raise error


def test_an_adapter_that_cannot_be_saved_is_told_whatever_the_library_raises(tmp_path: Path) -> None:
    def save(folder: Path) -> None:
        raise Exception("No space left on device (os error 28)")  # as tokenizers does

    with pytest.raises(RunError, match=r"adapter: cannot be saved \(No space left on device \(os error 28\)\)"):
        RunDirectory(tmp_path).save_adapter(3, save)
