"""What every command that loads a model has in common: signals, a quiet screen, the memory plan and the policy."""

import errno
import io
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from motif_lite.credits.table import credit_of
from motif_lite.errors import ModelError, RecipeError, RunError, ServerError
from motif_lite.jobs import stopping
from motif_lite.jobs.stopping import Stop
from motif_lite.observer import Observer
from motif_lite.paths import cache_folder
from motif_lite.planning import hardware, one_card, planner, precision, shapes, speeds, timing
from motif_lite.planning.machine import Machine, lacks_memory
from motif_lite.planning.planner import Plan
from motif_lite.planning.remarks import remarks
from motif_lite.policies import backends
from motif_lite.policies.protocol import trainable
from motif_lite.ranks import ALONE, PeerEnded, Ranks
from motif_lite.recipe import idle_keys
from motif_lite.recipe.keys import changed
from motif_lite.recipe.schema import Recipe
from motif_lite.runs import inputs, resuming
from motif_lite.runs.directory import RunDirectory
from motif_lite.tasks import chain_sum

if TYPE_CHECKING:
    from motif_lite.policies.protocol import Backend, Policy


_log = logging.getLogger(__name__)

_Decided = tuple[str, dict[str, Any]]
"""Where the model is, and what the plan has decided, by dotted key."""

_CANNOT_WRITE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}

_WORTH_MEASURING = 30
"""Seconds of a step, by an assumed speed, for which four more do not matter."""


@contextmanager
def conducted(
    observer: Observer, folder: Path, how_to_go_on: Callable[[], str], say: Callable[[str], None] | None = None
) -> Iterator[Stop]:
    """What everything that loads a model happens in: signals, a silent screen, warnings shown, faults named.

    Args:
        folder: Where it writes.
        how_to_go_on: The message after an interruption or a full disk.
        say: Shows a line about a signal; where it is None, the observer does.
    """
    with working(observer, folder, how_to_go_on), stopping.signals(say or observer.note, how_to_go_on) as stop:
        yield stop


@contextmanager
def working(observer: Observer, folder: Path, how_to_go_on: Callable[[], str]) -> Iterator[None]:
    """As `conducted`, with signals left to the caller."""
    with (
        redirect_stdout(_Printed()), redirect_stderr(_Printed()), _notices_to(observer),
        _faults_named(folder, how_to_go_on),
    ):  # fmt: skip
        yield


def required_backend(recipe: Recipe, ranks: Ranks = ALONE) -> "Backend":
    """The recipe's backend, imported with all that it needs.

    Args:
        ranks: The processes that share the run; each takes a GPU.

    Raises:
        MissingHardwareError: This machine has no GPU for it, or lacks a package.
    """
    prepare_libraries()
    if chosen := one_card.use(recipe, ranks):
        _log.warning(chosen)
    backend = backends.backend(recipe.model.backend)
    backend.require(recipe)
    return backend


def load_policy(
    backend: "Backend", recipe: Recipe, observer: Observer, *, trains: bool, ranks: Ranks = ALONE
) -> tuple[Recipe, Plan | None, "Policy"]:
    """The recipe with all that the plan decides, the plan where there can be one, and the policy.

    Args:
        ranks: The processes that share the run; the others are in `load_as_decided`.

    Raises:
        RecipeError: It does not fit the GPU.
        ModelError: The model cannot be loaded.
        ServerError: The recipe names a server, and it does not answer.
    """
    if recipe.model.backend == "server":
        from motif_lite.policies.server.policy import ServerPolicy

        observer.phase("connecting", str(recipe.model.url))
        recipe = with_date(changed(recipe, {"rollout.max_width": recipe.model.requests}))
        return recipe, None, ServerPolicy.load(recipe, recipe.model.name)
    machine = _machine(
        recipe, ranks, trains=trains
    )  # before the tiny model is made here, which takes memory of its own
    for remark in idle_keys.remarks(recipe, credit_of(recipe)) if trains else ():
        observer.note(f"note: {remark}")
    name = _model_name(recipe, observer)
    recipe = with_date(recipe)
    recipe, plan = _planned(recipe, name, machine, observer, trains=trains, processes=ranks.count)
    ranks.from_main(_Decided, (name, resuming.decisions(recipe)))
    observer.phase("loading", recipe.model.name)
    return recipe, plan, ranks.together(lambda: backend.load(recipe, name))


def load_as_decided(backend: "Backend", recipe: Recipe, ranks: Ranks) -> tuple[Recipe, "Policy"]:
    """In a helper: the recipe with what the main process has decided in `load_policy`, and the policy."""
    _machine(recipe, ranks, trains=False)
    found: _Decided = ranks.from_main(_Decided)
    name, decided = found
    recipe = changed(recipe, decided)
    return recipe, ranks.together(lambda: backend.load(recipe, name))


def with_date(recipe: Recipe) -> Recipe:
    """The recipe with the day that its prompts may name, which is kept with the run."""
    if recipe.model.template_date != "auto":
        return recipe
    return changed(recipe, {"model.template_date": datetime.now().astimezone().date().isoformat()})


def sums_of_model(recipe: Recipe, policy: "Policy", observer: Observer) -> dict[str, str]:
    """The sums of the files that a policy was loaded from; of a server, the name of the model."""
    if recipe.model.backend == "server":
        from motif_lite.policies.server.policy import ServerPolicy

        assert isinstance(policy, ServerPolicy)
        return {"served": policy.served}
    observer.phase("loading", f"{recipe.model.name}: sums of its files")
    is_made_here = recipe.model.name == "tiny"
    name = trainable(policy).model.name_or_path if is_made_here else os.path.expanduser(recipe.model.name)  # noqa: PTH111
    return inputs.of_model(name, observer.advance)


def _model_name(recipe: Recipe, observer: Observer) -> str:
    """The model's hub name or folder; the tiny one is built first if it is asked for."""
    name = os.path.expanduser(recipe.model.name)  # noqa: PTH111  # a hub name is not a path
    if name == "tiny":
        from motif_lite.tasks import tiny_model

        folder = tiny_model.prepare(
            seed=recipe.seed,
            num_rounds=recipe.rollout.num_rounds,
            max_tokens=recipe.rollout.futures.max_tokens,  # one model for openings of any length
            cache_folder=cache_folder(),
            task=recipe.data.train if recipe.data.train in chain_sum.TASKS else "chain_sum",
            on_start=lambda: observer.phase(
                "building", "the tiny model learns the steps of chain_sum (once, then cached)"
            ),
            on_progress=observer.advance,
        )
        name = str(folder)
    return name


def _machine(recipe: Recipe, ranks: Ranks, *, trains: bool) -> Machine:
    """What the run, or each of its processes, has to fit into; PyTorch keeps within it from here on."""
    from motif_lite.planning import metering

    machine = hardware.shared(hardware.machine_for(recipe, metering.gpu(), supposing=False), ranks.count)
    metering.keep_within(machine, is_tiny=recipe.model.name == "tiny")
    if trains and machine.device == "cpu":
        import motif_lite.training.grpo  # noqa: F401  # what it imports is measured, too
    return metering.measured(machine)


def _planned(
    recipe: Recipe, model_name: str, machine: Machine, observer: Observer, *, trains: bool, processes: int
) -> tuple[Recipe, Plan | None]:
    """The recipe with all that the plan decides, and the plan where there can be one.

    Raises:
        RecipeError: It does not fit the GPU.
        ModelError: The plan has to decide something, and the model's shape cannot be had.
    """
    from motif_lite.policies import bf16_products

    observer.phase("planning", "memory")
    recipe = bf16_products.where_possible(recipe, machine.device, trains=trains)
    try:
        shape = shapes.of(model_name)
    except shapes.UntrainableError:
        raise
    except ModelError as error:
        if "auto" in (recipe.rollout.max_width, recipe.training.micro_batch_size):
            raise ModelError(f"{error}; without a plan, set rollout.max_width and training.micro_batch_size") from None
        observer.note(f"note: no memory plan ({error})")
        return changed(recipe, precision.decisions(recipe, machine.device)), None
    plan = planner.make(recipe, shape, machine, trains=trains, processes=processes)
    for remark in remarks(recipe, plan):
        observer.note(f"note: {remark}")
    if trains:
        observer.planned(_step_seconds(plan))
    if not plan.fits:
        complaint = f"{plan.shortage}; {plan.remedy}"
        if machine.device == "cuda":
            raise RecipeError(f"{complaint}; to override the plan, raise --set model.memory_gib=N")
        observer.note(f"note: {complaint}")  # a CPU can swap, and few replies run to their limits
    return plan.recipe, plan


def _step_seconds(plan: Plan) -> dict[str, float]:
    """Of a step by phase; where it is long on a processor, by the speed of this one, whose measuring takes a moment."""
    if plan.machine.device != "cpu" or sum(plan.seconds.values()) < _WORTH_MEASURING:
        return plan.seconds
    return timing.step_seconds(timing.share(plan.recipe, plan.processes), plan.shape, "cpu", speeds.measured())


@contextmanager
def _faults_named(folder: Path, how_to_go_on: Callable[[], str]) -> Iterator[None]:
    """Turn what the machine lacks into an error that the user can fix, wherever it occurs: room, memory, the folder."""
    try:
        yield
    except ServerError as error:
        raise ServerError(f"{error}; {how_to_go_on()}") from None
    except PeerEnded:
        raise RunError(
            f"another process of this run has ended, and so does this one; everything saved before is intact; "
            f"{how_to_go_on()}"
        ) from None
    except (OSError, MemoryError, RuntimeError, ImportError) as error:
        if isinstance(error, OSError) and error.errno in _CANNOT_WRITE:
            raise RunError(
                f"{error.filename or folder}: cannot be written ({error.strerror}); free some space; everything "
                f"saved before is intact; {how_to_go_on()}"
            ) from None
        if isinstance(error, FileNotFoundError) and not folder.exists():
            raise RunError(
                f"{folder}: was removed while the run worked in it; repeat the command to start it again"
            ) from None
        if lacks_memory(error):
            reason = str(error).strip().partition("\n")[0][:200] or "none is left"
            raise RunError(
                f"the system gives this process no more memory ({reason}); free some, or raise its limit (ulimit -v); "
                f"{how_to_go_on()}"
            ) from error
        raise


@contextmanager
def _notices_to(observer: Observer) -> Iterator[None]:
    """Show warnings of this package to the observer."""
    notices = _Notices(observer)
    logging.getLogger("motif_lite").addHandler(notices)
    try:
        yield
    finally:
        logging.getLogger("motif_lite").removeHandler(notices)


@contextmanager
def log_file(run: RunDirectory) -> Iterator[None]:
    """Everything that is logged goes to run.log, warnings of all libraries included."""
    handler = run.log_handler()
    logging.getLogger().addHandler(handler)
    logging.getLogger().setLevel(logging.INFO)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        logging.getLogger().removeHandler(handler)
        handler.close()


class _Printed(io.TextIOBase):
    """Takes what libraries print, banners and bars, and logs it: the terminal is the console's alone."""

    def write(self, text: str) -> int:
        if text.strip():
            logging.getLogger("printed").info(text.strip())
        return len(text)


class _Notices(logging.Handler):
    """Passes warnings on to the observer."""

    def __init__(self, observer: Observer) -> None:
        super().__init__(logging.WARNING)
        self._observer = observer

    def emit(self, record: logging.LogRecord) -> None:
        self._observer.note(f"note: {record.getMessage()}")


def prepare_libraries() -> None:
    """Silence the libraries' own bars and banners, and let PyTorch have large pages; before they are imported."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    # On a CPU tensors go back to the system when they are freed (`metering.keep_within`), and Linux clears each page of
    # the next one. With pages of 4 KB that was half of the time of an update in bfloat16 (docs/measurements.md).
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    # Python prints what nobody handles to the screen; with this it goes to run.log or nowhere.
    logging.getLogger().addHandler(logging.NullHandler())
    warnings.filterwarnings("ignore", module="trl|peft|transformers|torch")
