"""An adapter that a command line names: a folder, or an adapter on the hub, whose settings the recipe then takes on."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from motif_lite.errors import ModelError, RunError
from motif_lite.jobs import session
from motif_lite.observer import Observer
from motif_lite.planning import adapter_folder, hub_name
from motif_lite.policies import adapter_weights
from motif_lite.policies.protocol import ADAPTER_FILE, trainable
from motif_lite.recipe.keys import changed
from motif_lite.recipe.schema import Recipe
from motif_lite.runs import sealing
from motif_lite.runs.directory import RunDirectory
from motif_lite.runs.folders import holds_run

if TYPE_CHECKING:
    from motif_lite.policies.protocol import Policy

BEST = "best"
"""In place of an adapter's folder: that of the run's best mark."""

WRITTEN_HERE = {"rollout.server": None, "rollout.server_folder": None}
"""For a model that is used: it writes here, whatever server wrote while it was trained."""

_OF_SOMEBODY = 0
"""The step of an adapter that the run did not train."""

_WANTED = (ADAPTER_FILE, adapter_folder.CONFIG, "tokenizer*", "special_tokens_map.json", "chat_template.jinja")


def require(name: str) -> None:
    """Refuse what is neither a whole adapter nor the name of one on the hub; nothing is downloaded.

    Raises:
        ModelError: It is neither.
    """
    folder = adapter_folder.as_folder(name)
    if folder is not None:
        _require_whole(folder)
    elif not hub_name.is_full(name):
        raise ModelError(
            f"{name}: there is no such folder; give that of an adapter, e.g. runs/NAME/adapter, or a hub name"
        )


def fetched(name: str, observer: Observer) -> Path:
    """The folder of an adapter that `require` has passed, downloaded if it is on the hub.

    Raises:
        ModelError: It cannot be downloaded, or is no adapter in safetensors.
    """
    folder = adapter_folder.as_folder(name)
    if folder is None:
        folder = _downloaded(name, observer)
        _require_whole(folder)
    return folder


def with_settings_of(recipe: Recipe, folder: Path, observer: Observer) -> Recipe:
    """The recipe with the rank, the scale and the layers of an adapter, which its weights do not fit without.

    Raises:
        ModelError: Its settings cannot be read.
    """
    config = adapter_folder.config_of(folder)
    base, name = config.get("base_model_name_or_path"), recipe.model.name
    if isinstance(base, str) and name != "tiny":
        if not _is_same_model(folder, base, name):
            observer.note(f"note: {folder} was trained on {base}, and is used with {name}")
        elif remark := adapter_folder.remark_on_revision(folder, name):
            observer.note(f"note: {remark}")
    adapter_folder.require_numbers(folder)
    targets = adapter_weights.targets_of(folder)
    found = {"lora.rank": config.get("r"), "lora.alpha": config.get("lora_alpha"), "lora.targets": targets}
    return changed(recipe, {key: value for key, value in found.items() if value})


def of_run(run: RunDirectory) -> Path:
    """The folder of a run's adapter.

    Raises:
        ModelError: It has none, or it is damaged.
    """
    if not run.adapter.is_dir():
        raise ModelError(
            f"{run.root}: has no trained adapter yet; finish the run with --resume --out {run.root}, or name a "
            f"checkpoint with solve --adapter"
        )
    run.require_whole_adapter()
    return run.adapter


def best_of_run(run: RunDirectory) -> Path:
    """The folder of the adapter of a run's best mark.

    Raises:
        ModelError: It has none, or it is damaged.
    """
    if not run.best_adapter.is_dir():
        raise ModelError(
            f"{run.root}: has no adapter_best, which a run keeps that measures held-out problems while it trains "
            f"([evaluation.validation] in its recipe); leave --adapter out for its last adapter"
        )
    _require_whole(run.best_adapter)
    return run.best_adapter


def named(run: RunDirectory, name: str | None) -> Path:
    """The folder of the adapter that a command about a run names: its last one, ``best``, or a folder.

    Raises:
        ModelError: There is none, or it is damaged.
    """
    if name is None:
        return of_run(run)
    if name == BEST:
        return best_of_run(run)
    folder = adapter_folder.as_folder(name)
    if folder is None:
        raise ModelError(f"{name}: there is no such folder; give that of an adapter, or best for {run.best_adapter}")
    _require_whole(folder)
    return folder


def require_fit(name: str | None, recipe: Path | None, out: Path | None, *, evaluate_only: bool) -> None:
    """Refuse an adapter that is not to be evaluated, or next to a run's own.

    Raises:
        RunError: The other options do not go with it.
        ModelError: It is no adapter.
    """
    if name is None:
        return
    if not evaluate_only or recipe is None:
        raise RunError(
            "--adapter goes with --evaluate-only and --recipe: the recipe names model, prompts and benchmarks"
        )
    if out is not None and holds_run(out):
        raise RunError(f"{out}: holds a run; evaluate it without --adapter, or choose another --out")
    require(name)


def taken_on(recipe: Recipe, name: str | None, observer: Observer) -> tuple[Recipe, Path | None]:
    """The recipe with the settings of an adapter, and its folder; the recipe alone where none is named.

    Raises:
        ModelError: It cannot be downloaded or read.
    """
    if name is None:
        return recipe, None
    folder = fetched(name, observer)
    return with_settings_of(recipe, folder, observer), folder


def loaded(recipe: Recipe, name: str | None, observer: Observer) -> tuple[Recipe, "Policy"]:
    """A policy with the adapter that was named, if any, and the recipe with all that was decided for it.

    Raises:
        MotifError: Model or adapter cannot be loaded, or do not fit.
    """
    recipe = changed(recipe, WRITTEN_HERE)
    backend = session.required_backend(recipe)
    asked, folder = taken_on(recipe, name, observer)
    decided, _, policy = session.load_policy(backend, asked, observer, trains=False)
    if folder is not None:
        trainable(policy).load_adapter(folder)
    return decided, policy


def put_into(run: RunDirectory, folder: Path | None) -> None:
    """Copy an adapter, if there is one, into a run's folder, in the place of one that was trained there.

    Raises:
        RunError: It cannot be written.
    """
    if folder is None:
        return

    def copy(target: Path) -> None:
        shutil.copytree(folder, target, ignore=shutil.ignore_patterns(sealing.MANIFEST))

    run.save_adapter(_OF_SOMEBODY, copy)


def require_own(run: RunDirectory) -> None:
    """Refuse to train in a folder with somebody's adapter, which `put_into` has copied there to be measured.

    Raises:
        RunError: It has one.
    """
    if sealing.step_of(run.adapter) == _OF_SOMEBODY:
        raise RunError(
            f"{run.root}: measures the adapter that --adapter named, and training would replace it; train in another "
            f"--out, with the same --recipe and --set"
        )


def _is_same_model(adapter: Path, base: str, name: str) -> bool:
    """Whether a model may be the base that an adapter names: copies of one, here or on the hub, share a last name."""
    ours, theirs = adapter_folder.as_folder(name), adapter_folder.as_folder(base)
    theirs = theirs or adapter_folder.as_folder(str(adapter / base))
    if ours is not None and (theirs is not None or adapter_folder.is_path(base)):
        return theirs is not None and theirs.resolve() == ours.resolve()
    return Path(base).name.lower() == Path(name).name.lower()


def _require_whole(folder: Path) -> None:
    try:
        is_there = (folder / ADAPTER_FILE).is_file()
    except OSError:  # a name that no file can have
        is_there = False
    if not is_there:
        adapter_folder.require_readable(folder)
        raise ModelError(f"{folder}: contains no adapter; give a run's, e.g. runs/NAME/adapter")
    damage = sealing.damage(folder) if (folder / sealing.MANIFEST).exists() else None
    if damage:
        raise ModelError(f"{folder}: {damage}; resume its run to write it again")
    adapter_folder.config_of(folder)


def _downloaded(name: str, observer: Observer) -> Path:
    from huggingface_hub import snapshot_download

    observer.phase("downloading", name)
    try:
        return Path(snapshot_download(name, allow_patterns=list(_WANTED)))
    except Exception as error:  # the network, the name and the rights each raise their own kind
        reason = str(error).strip().partition("\n")[0][:300] or type(error).__name__
        raise ModelError(
            f"{name}: the adapter cannot be downloaded ({reason}); check the name and the connection, or give a folder"
        ) from None
