"""What a run stands on and its recipe only names: the problems and the model's files, as SHA-256 sums in inputs.json.

Benchmarks are not among them: what is measured may change, and each measurement keeps the sum of its own problems.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from motif_lite.errors import RunError
from motif_lite.nouns import OnProgress, Problem
from motif_lite.planning import adapter_folder
from motif_lite.runs import sealing
from motif_lite.runs.files import read_record, write_record
from motif_lite.runs.records import Versioned

FILE = "inputs.json"

_READ_BY_LOADING = (".safetensors", ".json", ".jinja", ".model", ".txt")
"""Files of a model's folder that decide what is loaded; its README does not."""

_BLOCK = 1 << 22


class Inputs(Versioned):
    """All of inputs.json.

    Attributes:
        train: The sum of the training problems; None while the run has only been evaluated.
        validation: Of held-out ones, where the recipe asks for them.
        model: By file of the model's folder, or the commit of one from the hub.
    """

    train: str | None = None
    validation: str | None = None
    model: dict[str, str]


def of_problems(problems: Sequence[Problem]) -> str:
    """The sum of problems: of what each is called, asks, and has for an answer."""
    digest = hashlib.sha256()
    for problem in problems:
        digest.update(json.dumps([problem.id, problem.question, problem.gold]).encode())
    return digest.hexdigest()


_OF_NO_PROBLEMS = of_problems(())
"""What earlier versions recorded of a run that was only evaluated."""


def of_model(model_name: str, on_progress: OnProgress) -> dict[str, str]:
    """The sums of a model's files by name, or the commit of one from the hub.

    Args:
        model_name: A folder or hub name; an adapter's has the files of its base, too.
        on_progress: Told of bytes read and in all.
    """
    folder = adapter_folder.as_folder(model_name)
    if folder is None:
        return _of_hub_model(model_name)
    sums: dict[str, str] = {}
    if adapter_folder.is_adapter(folder):
        base = adapter_folder.base_of(folder)
        sums = {f"base/{name}": digest for name, digest in of_model(base, on_progress).items()}
    paths = sorted(path for path in folder.iterdir() if path.suffix in _READ_BY_LOADING and path.is_file())
    total, done = sum(path.stat().st_size for path in paths), 0
    for path in paths:
        digest = hashlib.sha256()
        for block in _blocks(path):
            digest.update(block)
            done += len(block)
            on_progress(done, total)
        sums[path.name] = digest.hexdigest()
    return sums


def of_file(path: Path) -> str | None:
    """The sum of a file; None where there is none."""
    return sealing.digest_of(path) if path.is_file() else None


def in_one(sums: Mapping[str, str]) -> str:
    """The sum of sums."""
    return hashlib.sha256(json.dumps(dict(sorted(sums.items()))).encode()).hexdigest()


def kept(root: Path) -> Inputs | None:
    """What was recorded when the run was started; None for a run of an earlier version.

    Raises:
        RunError: The file is damaged.
    """
    return read_record(root / FILE, Inputs, "start a new run in another --out")


def keep(root: Path, inputs: Inputs) -> None:
    """Record what a run stands on."""
    write_record(root / FILE, inputs)


def knows_problems(root: Path) -> bool:
    """Whether the training problems were recorded: not by earlier versions, nor where nothing was trained yet."""
    earlier = kept(root)
    return earlier is not None and earlier.train not in (None, _OF_NO_PROBLEMS)


def require_same_problems(root: Path, train: Sequence[Problem], held_out: Sequence[Problem]) -> None:
    """Refuse to train on with other problems under the same names.

    Raises:
        RunError: They are not those that the run was started with.
    """
    earlier = kept(root)
    if earlier is None:
        return
    now = {"data.train": (earlier.train, of_problems(train))} if knows_problems(root) else {}
    if earlier.validation is not None:
        now["evaluation.validation"] = (earlier.validation, of_problems(held_out))
    changed = [key for key, (before, after) in now.items() if before != after]
    if changed:
        raise RunError(
            f"{root}: the problems of {' and '.join(changed)} have changed since the run was started (questions, "
            f"answers or their order); put the file back as it was, or start a new run in another --out"
        )


def require_same_model(root: Path, model_name: str, sums: Mapping[str, str]) -> None:
    """Refuse to go on with other weights, another tokenizer or another chat template under the same name.

    Raises:
        RunError: The model's files are not those that the run was started with.
    """
    earlier = kept(root)
    if earlier is None or earlier.model == sums:
        return
    changed = sorted(name for name in earlier.model.keys() | sums.keys() if earlier.model.get(name) != sums.get(name))
    raise RunError(
        f"{root}: the model {model_name} has changed since the run was started ({', '.join(changed)}); put it back as "
        f"it was, or start a new run in another --out"
    )


def _of_hub_model(model_name: str) -> dict[str, str]:
    from huggingface_hub import try_to_load_from_cache

    try:
        cached = try_to_load_from_cache(model_name, "config.json")
    except ValueError:  # not a name that the hub may have
        return {}
    return {"commit": Path(cached).parent.name} if isinstance(cached, str) else {}


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from iter(partial(file.read, _BLOCK), b"")
