"""What only a GPU can show: ``pytest -m gpu tests/gpu``; docs/measurements.md says what each row is.

Random weights of a real model's shape are loaded, trained and read within a given memory. Each test takes less than ten
minutes. With ``--gpu-device cpu --gpu-size tiny`` the same code runs without a GPU. No network is needed.
"""

import pytest

from motif_lite.runs.directory import RunDirectory
from tests.gpu import rows
from tests.gpu.bench import Bench, Loaded
from tests.gpu.conftest import Measured

pytestmark = pytest.mark.gpu


def test_it_runs(bench: Bench, three_steps: RunDirectory, measured: Measured) -> None:
    measured(rows.it_runs(bench))


def test_peak_memory(bench: Bench, three_steps: RunDirectory, loaded: Loaded, measured: Measured) -> None:
    measured(rows.peak_memory(bench))


def test_time(bench: Bench, three_steps: RunDirectory, measured: Measured) -> None:
    measured(rows.time_by_phase(bench))


def test_batching_pays(bench: Bench, three_steps: RunDirectory, loaded: Loaded, measured: Measured) -> None:
    measured(rows.batching(bench))


def test_ways_of_generating(bench: Bench, loaded: Loaded, measured: Measured) -> None:
    measured(rows.ways_of_generating(bench))


def test_padding_is_right(bench: Bench, loaded: Loaded, measured: Measured) -> None:
    measured(rows.padding(bench))


def test_the_adapter_is_live(bench: Bench, loaded: Loaded, measured: Measured) -> None:
    measured(rows.lora_is_live(bench))  # trains, so after those that do not


def test_resume(bench: Bench, measured: Measured) -> None:
    measured(rows.resume(bench))


def test_logit_chunks(bench: Bench, measured: Measured) -> None:
    measured(rows.logit_chunks(bench))
