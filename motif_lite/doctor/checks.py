"""The checks of an installation: each is one function of the facts, and one line of `CHECKS`."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from motif_lite.doctor.facts import FOR_CPUS, OPTIONAL, Facts
from motif_lite.doctor.gpu import gpu_fault
from motif_lite.planning import one_card, pytorch
from motif_lite.planning.driver import Gpu

State = Literal["ok", "note", "wrong"]

_PYTHONS = (3, 11), (3, 14)

_BITSANDBYTES_FROM = ((7, 0), (7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0))
"""Compute capabilities that bitsandbytes 0.50.2's wheel has kernels for."""

_LEAST_CARD_GIB, _LEAST_MEMORY_GIB = 7.5, 12.0
"""What the recipe for 8 GB cards plans, and what loading a 3B model takes on the way to the GPU."""

_USED_BY_A_DESKTOP_GIB = 0.4
"""What a plan leaves free of an 8 GB card, a twentieth."""

_DISK_GIB = 15.0
"""Weights of a 3B model (6.2 GB), data sets, compiled kernels, checkpoints."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found.

    Attributes:
        state: ``note``: of no harm to most runs; ``wrong``: runs fail or are slow.
        text: The fact.
        remedy: What to do; empty where nothing is.
    """

    state: State
    text: str
    remedy: str = ""


def python(facts: Facts) -> Iterator[Finding]:
    """Its version."""
    number = "{}.{}".format(*facts.python)
    if _PYTHONS[0] <= facts.python <= _PYTHONS[1]:
        yield Finding("ok", f"Python {number}")
    else:
        yield Finding("wrong", f"Python {number}, where 3.11 to 3.14 are needed", "make the environment with another")


def packages(facts: Facts) -> Iterator[Finding]:
    """Versions against the pins."""
    file = facts.requirements
    if not facts.pins:
        yield Finding("note", f"{file} is not here, so versions were not compared")
        return
    missing = [name for name in facts.pins if facts.installed.get(name) is None]
    other = {
        name: found
        for name, pin in facts.pins.items()
        if (found := facts.installed.get(name)) is not None and found.partition("+")[0] != pin
    }
    if missing:
        yield Finding("wrong", f"not installed: {', '.join(missing)}", f"pip install -r {file}")
    if other:
        differing = ", ".join(f"{name} {found} (pinned {facts.pins[name]})" for name, found in other.items())
        yield Finding("wrong", f"other versions than {file}: {differing}", f"pip install -r {file}")
    if not missing and not other:
        yield Finding("ok", f"all {len(facts.pins)} packages have the versions of {file}")


def gpu(facts: Facts) -> Iterator[Finding]:
    """Driver, CUDA build and architecture."""
    asked, fault = facts.driver, gpu_fault(facts.torch, facts.driver)
    if fault is not None:
        text, _, remedy = fault.rpartition("; ")
        is_absent = not asked.gpus and not asked.hidden
        also = "; without a GPU, recipes/tiny_cpu.toml trains a tiny model" if is_absent else ""
        is_harmless = is_absent and facts.requirements == FOR_CPUS
        yield Finding("note" if is_harmless else "wrong", text, remedy + also)
        return
    for number, each in enumerate(asked.gpus):
        capability = "{}.{}".format(*each.capability) if each.capability else "unknown"
        text = f"cuda:{number} {each.name}, {each.size}, compute capability {capability}"
        if why := pytorch.why_no_kernels(facts.torch, each.capability):
            yield Finding("note", f"{text}; {why}", "a run takes another")
            continue
        yield Finding("ok", f"{text}, driver {each.driver}; PyTorch's CUDA is {facts.torch and facts.torch.cuda}")


def card(facts: Facts) -> Iterator[Finding]:
    """Memory and number formats of the GPU that a run takes."""
    gpus = facts.driver.gpus
    if not gpus:
        return
    taken = one_card.best_first(gpus)[0]
    yield from _memory_of(taken)
    if taken.capability and not pytorch.runs_on(taken.capability, _BITSANDBYTES_FROM):
        yield Finding("wrong", f"{taken.name}: bitsandbytes has no kernels for it", "set model.load_in_4bit = false")
    if taken.capability and not taken.has_bfloat16:
        yield Finding("note", f"{taken.name} has no bfloat16; runs use float16", "see recipes/motif_t4.toml")
    if len(gpus) > 1:
        best = f"cuda:{gpus.index(taken)} {taken.name}"
        yield Finding("note", f"a run uses one GPU, the best: {best}", 'model.device = "cuda:N" chooses another')


def _memory_of(gpu: Gpu) -> Iterator[Finding]:
    if gpu.memory_gib is None:
        yield Finding("note", f"{gpu.name}: nvidia-smi does not tell its memory", "--plan needs --vram GIB")
        return
    if gpu.memory_gib < _LEAST_CARD_GIB:
        yield Finding(
            "note", f"{gpu.name}: {gpu.size} are less than any recipe for 3B models needs",
            "use a smaller model; --plan says what fits",
        )  # fmt: skip
    if gpu.used_gib > _USED_BY_A_DESKTOP_GIB:
        yield Finding(
            "note", f"{gpu.name}: other programs use {gpu.used_gib:.1f} of {gpu.size}",
            "end them, or a run takes what is left",
        )  # fmt: skip


def compiler(facts: Facts) -> Iterator[Finding]:
    """What Triton needs when a run starts."""
    if not facts.driver.gpus:
        return
    if facts.compiler is None:
        yield Finding("wrong", "no C compiler; Triton compiles with gcc while a run starts", "apt install gcc")
    else:
        yield Finding("ok", f"C compiler {facts.compiler}")
    if facts.python_header is None:
        package = "python{}.{}-dev".format(*facts.python)
        yield Finding("wrong", "Python.h is missing, which Triton's code includes", f"apt install {package}")
    else:
        yield Finding("ok", f"Python's headers, {facts.python_header}")


def memory(facts: Facts) -> Iterator[Finding]:
    """Of the machine."""
    text = f"{facts.memory_gib:.1f} GiB of memory"
    if facts.driver.gpus and facts.memory_gib < _LEAST_MEMORY_GIB:
        yield Finding(
            "note", f"{text}; loading a 3B model may need {_LEAST_MEMORY_GIB:.0f}",
            "raise WSL's or the container's limit, or use a smaller model",
        )  # fmt: skip
    else:
        yield Finding("ok", text)


def disk(facts: Facts) -> Iterator[Finding]:
    """Free room for what will be written."""
    for what, free in facts.free_disk_gib.items():
        if facts.driver.gpus and free < _DISK_GIB:
            yield Finding(
                "note", f"{free:.1f} GiB free for {what}; a 3B model and a run take up to {_DISK_GIB:.0f}",
                "free some, or set HF_HOME, MOTIF_LITE_CACHE or --out to another disk",
            )  # fmt: skip
        else:
            yield Finding("ok", f"{free:.1f} GiB free for {what}")


def optional(facts: Facts) -> Iterator[Finding]:
    """What only some recipes and commands need."""
    for name, (use, file) in OPTIONAL.items():
        if (found := facts.installed.get(name)) is not None:
            yield Finding("ok", f"{name} {found}, for {use}")
        else:
            yield Finding("note", f"{name} is not installed; only {use} needs it", f"pip install -r {file}")


CHECKS: dict[str, Callable[[Facts], Iterator[Finding]]] = {
    "Python": python,
    "packages": packages,
    "GPU": gpu,
    "card": card,
    "compiler": compiler,
    "memory": memory,
    "disk": disk,
    "optional": optional,
}
"""By the name that people see."""


def examine(facts: Facts) -> list[tuple[str, Finding]]:
    """All findings, in the order of the table."""
    return [(name, finding) for name, check in CHECKS.items() for finding in check(facts)]
