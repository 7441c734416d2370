"""How the tests on a GPU are run: settings, the order, and what is written down of each.

A test that has passed is skipped in the next call with the same folder, so a call that was cut off goes on.
"""

import signal
from collections.abc import Callable, Generator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from motif_lite.planning import driver
from motif_lite.runs.directory import RunDirectory
from tests.gpu import rows
from tests.gpu.bench import Bench, Loaded, Settings, stay_offline
from tests.gpu.measurements import Measurements, OtherSettingsError, markdown
from tests.gpu.rows import Finding

Measured = Callable[[Finding], None]

SIZES = ("3b", "1.5b", "0.5b", "tiny")
"""Of benchmarks/random_model.py, which imports transformers: Unsloth has to come first."""

RESULTS = pytest.StashKey[Measurements]()
FOUND = pytest.StashKey[Finding]()
DONE = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("gpu", "measurements on a GPU")
    group.addoption("--gpu-device", choices=("cuda", "cpu"), default="cuda")
    group.addoption("--gpu-size", choices=SIZES, default="3b", help="shape of the model: Qwen2.5's, or tiny")
    group.addoption("--gpu-backend", choices=("unsloth", "transformers"), help="default: unsloth on cuda")
    group.addoption("--gpu-memory-gib", type=float, default=24.0, help="the card to stand for (default: 24)")
    group.addoption("--gpu-tokenizer", metavar="DIR", help="Qwen2.5's tokenizer; default: a token per byte")
    group.addoption("--gpu-data", metavar="FILE", help="problems; default: chain_sum, made on the spot")
    group.addoption(
        "--gpu-tokens",
        nargs=2,
        type=int,
        metavar=("OPENING", "FUTURE"),
        help="longest replies (256 256)",
    )
    group.addoption(
        "--gpu-out",
        type=Path,
        default=Path("runs/gpu"),
        metavar="DIR",
        help="for everything (runs/gpu)",
    )
    group.addoption("--gpu-again", action="store_true", help="also what has been measured")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """One GPU, one process, whatever pyproject.toml says of pytest-xdist."""
    if config.pluginmanager.has_plugin("xdist"):
        config.option.numprocesses, config.option.dist, config.option.tx = None, "no", []


def pytest_configure(config: pytest.Config) -> None:
    settings = settings_of(config.option)
    if settings.device == "cuda" and not driver.ask().gpus and not list(Path("/dev").glob("nvidia*")):
        raise pytest.UsageError(
            "there is no NVIDIA GPU here; --gpu-device cpu --gpu-size tiny runs the same code without one"
        )
    try:
        config.stash[RESULTS] = Measurements(config.option.gpu_out / "measurements.json", settings)
    except OtherSettingsError as error:
        raise pytest.UsageError(str(error)) from None
    stay_offline()


def pytest_sessionstart(session: pytest.Session) -> None:
    """End in good order on SIGTERM as on Ctrl-C: the run in progress is stopped, too."""

    def leave(number: int, frame: FrameType | None) -> None:
        session.shouldstop = "interrupted"  # some libraries make another error of the next line's
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, leave)


def settings_of(options: Any) -> Settings:
    """The command line's options."""
    on_gpu = options.gpu_device == "cuda"
    openings, futures = options.gpu_tokens or ((256, 256) if on_gpu else (16, 16))
    return Settings(
        device=options.gpu_device,
        size=options.gpu_size,
        backend=options.gpu_backend or ("unsloth" if on_gpu else "transformers"),
        memory_gib=options.gpu_memory_gib,
        tokenizer=options.gpu_tokenizer,
        data=options.gpu_data,
        openings=openings,
        futures=futures,
    )


def title_of(item: pytest.Item) -> str:
    """A test's name in words, which is its row's."""
    return item.name.removeprefix("test_").replace("_", " ")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # Until a policy is loaded into this process, the GPU belongs to the runs that the other tests start.
    items.sort(key=lambda item: "loaded" in getattr(item, "fixturenames", ()))
    for item in items:
        entry = config.stash[RESULTS].rows.get(title_of(item))
        if config.stash[RESULTS].is_done(title_of(item)) and entry and not config.option.gpu_again:
            item.stash[DONE] = True
            item.add_marker(pytest.mark.skip(reason=f"measured {entry['date'][:10]}; --gpu-again repeats it"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Write the row down as soon as it is known; whatever went wrong is its result."""
    report = yield
    if (report.when == "call" or (report.when == "setup" and not report.passed)) and not (
        DONE in item.stash or item.session.shouldstop
    ):
        found = item.stash.get(FOUND, None)
        entry: dict[str, Any] = {"status": report.outcome, "seconds": round(call.duration, 1)}
        if found:
            entry |= {"summary": found.summary, "figures": found.figures}
        elif call.excinfo:
            entry["summary"] = str(call.excinfo.value) if report.skipped else call.excinfo.exconly()
        if report.failed:
            entry["error"] = report.longreprtext
        item.config.stash[RESULTS].add(title_of(item), entry)
    return report


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    results = config.stash[RESULTS]
    terminalreporter.section(str(results.path))
    terminalreporter.write_line(markdown(results.rows) or "nothing has been measured yet")


@pytest.fixture(scope="session")
def bench(pytestconfig: pytest.Config) -> Bench:
    """Model, recipe and runs of these settings."""
    return Bench(settings_of(pytestconfig.option), pytestconfig.option.gpu_out)


@pytest.fixture(scope="session")
def three_steps(bench: Bench) -> RunDirectory:
    """The run that several rows read."""
    return rows.three_steps(bench)


@pytest.fixture(scope="session")
def loaded(bench: Bench) -> Loaded:
    """The policy in this process."""
    return bench.loaded


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> Measured:
    """Keeps what a test has found for the file, then asserts that it is as it should be."""

    def check(finding: Finding) -> None:
        request.node.stash[FOUND] = finding
        assert finding.passed, finding.summary

    return check
