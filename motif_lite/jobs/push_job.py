"""``export --push``: an exported model with a page of its own goes to the hub, or is shown as it would go."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from motif_lite.errors import ModelError, RunError
from motif_lite.exporting.records import FILE, ExportRecord
from motif_lite.jobs import session
from motif_lite.jobs.export_job import ExportJob
from motif_lite.observer import Observer
from motif_lite.planning import adapter_folder, hub_name
from motif_lite.views import model_card

_FORMATS = ("adapter", "merged")

CARD = "README.md"

_KEPT_HERE = (FILE, ".*")
"""Not pushed: what names folders of this machine, and what is hidden."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Push:
    """What ``--push`` asks for.

    Attributes:
        name: On the hub, ``OWNER/NAME``, or ``NAME`` among one's own.
        is_dry: Nothing is sent.
    """

    name: str
    is_private: bool
    is_dry: bool


@dataclass(frozen=True, slots=True)
class Pushed:
    """What was sent, or would be.

    Attributes:
        files: Names in the repository with their sizes in bytes.
        url: None where nothing was sent.
    """

    files: dict[str, int]
    url: str | None


def asked(name: str | None, format_name: str, *, is_private: bool, is_dry: bool) -> Push | None:
    """What a command line asks for; None where nothing is pushed.

    Raises:
        RunError: Its options do not go together.
    """
    if name is None:
        if is_private or is_dry:
            raise RunError("--private and --dry-run go with --push NAME")
        return None
    if not hub_name.is_new(name):
        raise RunError(f"--push {name}: is not a name on the hub; write OWNER/NAME")
    if format_name not in _FORMATS:
        raise RunError(f"--push goes with --format {' or '.join(_FORMATS)}, not {format_name}")
    return Push(name, is_private, is_dry)


def require_login(push: Push) -> None:
    """Refuse before anything is exported what the hub would refuse afterwards.

    Raises:
        ModelError: The user is not logged in, or the hub does not answer.
    """
    if not push.is_dry:
        from huggingface_hub import HfApi

        _told(push, lambda: HfApi().whoami())


def publish(push: Push, job: ExportJob, found: ExportRecord, observer: Observer) -> Pushed:
    """Write the page of a finished export, and send page and model.

    Raises:
        ModelError: The hub refuses, or does not answer; the export stays.
        RunError: The page cannot be written.
    """
    observer.phase("writing", f"the page of {push.name}")
    licence = _licence(job.recipe.model.name)
    about = model_card.Published(push.name, job.recipe, job.run, found, licence)
    with session.working(observer, job.to.parent, lambda: f"the export stays in {job.to}; repeat with another --to"):
        (job.to / CARD).write_text(model_card.text(about), encoding="utf-8")
    _tell_of_local_base(about, job.to, observer)
    files = {path.name: path.stat().st_size for path in sorted(job.to.iterdir()) if _is_sent(path)}
    if push.is_dry:
        return Pushed(files, None)
    from huggingface_hub import HfApi

    observer.phase("pushing", push.name)

    def send() -> str:
        api = HfApi()
        repository = api.create_repo(push.name, private=push.is_private, exist_ok=True)
        commit = f"{found.format} by motif_lite"
        api.upload_folder(
            repo_id=repository.repo_id, folder_path=job.to, allow_patterns=list(files), commit_message=commit
        )
        return str(repository)

    return Pushed(files, _told(push, send))


def _is_sent(path: Path) -> bool:
    return path.is_file() and not any(path.match(pattern) for pattern in _KEPT_HERE)


def _told(push: Push, call: Callable[[], Result]) -> Result:
    """The result of a call of the hub, with what goes wrong as one message."""
    try:
        return call()
    except Exception as error:  # the network, the name, the rights and the disk each raise their own kind
        reason = str(error).strip().partition("\n")[0][:300] or type(error).__name__
        raise ModelError(
            f"--push {push.name}: the hub refuses, or does not answer ({reason}); log in with `hf auth login`, or set "
            f"HF_TOKEN to a token that may write; --dry-run shows what would be pushed"
        ) from None


def _licence(base: str) -> str | None:
    """Of the base model, from its own page; None where that says none, or cannot be had."""
    from huggingface_hub import ModelCard

    folder = adapter_folder.as_folder(base)
    if folder is None and "/" not in base:  # the tiny model
        return None
    try:
        licence = ModelCard.load(str(folder / CARD) if folder else base).data.license
    except Exception:  # no page, no network, no metadata
        return None
    return licence if isinstance(licence, str) else None


def _tell_of_local_base(about: model_card.Published, folder: Path, observer: Observer) -> None:
    """Others cannot load an adapter whose settings name its base by a folder of this machine."""
    if about.export.format == "adapter" and model_card.base_on_hub(about) is None:
        observer.note(
            f"note: {folder / adapter_folder.CONFIG} names the base model by a folder of this machine; others need the "
            f"base's name on the hub there: base_model_name_or_path"
        )
