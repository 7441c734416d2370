"""The ``export`` command: a finished run as an adapter, a merged model, a GGUF file, or a model for Ollama.

What is exported is written under another name, loaded from there and compared with adapter and base; only then it gets
its own name. So a folder of that name is whole and was checked.
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from motif_lite.errors import ModelError, RunError
from motif_lite.exporting import gguf, ollama, places
from motif_lite.exporting.formats import FORMATS, Source
from motif_lite.exporting.records import FILE, ExportRecord, Number, Runtime
from motif_lite.jobs import adapter_choice, checking, session
from motif_lite.nouns import Reply, Sampling
from motif_lite.observer import Observer
from motif_lite.planning import adapter_folder
from motif_lite.policies import adapters
from motif_lite.policies.model_folder import is_half, is_quantised
from motif_lite.policies.protocol import ADAPTER_FILE
from motif_lite.recipe.keys import changed
from motif_lite.recipe.schema import Recipe
from motif_lite.recipe.spelling import nearest
from motif_lite.runs import inputs
from motif_lite.runs.directory import RunDirectory
from motif_lite.runs.files import write_record

if TYPE_CHECKING:
    from motif_lite.exporting.check import OwnReply
    from motif_lite.policies.local import LocalPolicy

_BYTES: dict[Number | None, int] = {None: 2, "bf16": 2, "f16": 2, "f32": 4, "q8_0": 3}
"""Of a weight, at most."""

_NUM_TRIED = 24
"""Tokens that llama.cpp writes."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A prompt for llama.cpp, and what adapter and base wrote for it.

    Attributes:
        num_tokens: Of the prompt.
    """

    prompt: str
    num_tokens: int
    reply: Reply


@dataclass(frozen=True, slots=True)
class ExportJob:
    """What an ``export`` command line asks for, validated, with nothing heavy done yet.

    Attributes:
        recipe: The run's, with the weights that the adapter is put on in 16 bits or more.
        to: As `places.free` gives it.
        has_other_base: The base was named on the command line, as `recipe` has it.
        adapter: The folder of what is exported.
    """

    run: RunDirectory
    recipe: Recipe
    to: Path
    format: str
    number: Number | None
    has_other_base: bool
    adapter: Path

    @property
    def unfinished(self) -> Path:
        """Where the export lies before it was checked."""
        return places.unfinished_of(self.to)

    def perform(self, observer: Observer) -> ExportRecord:
        """Export and check.

        Raises:
            MotifError: An error that the user can fix.
            Interrupted: The user stopped it.
        """
        with session.conducted(observer, self.to.parent, self.how_to_go_on):
            source = self._loaded(observer)
            self._require_room(source.policy)
            with places.unfinished(self.to) as folder:
                found = self._checked(source, observer)
                write_record(folder / FILE, found)
            return found

    @staticmethod
    def how_to_go_on() -> str:
        """How to continue, shown after an interruption."""
        return "nothing was exported; repeat the command to start over"

    def _loaded(self, observer: Observer) -> Source:
        backend = session.required_backend(self.recipe)
        here = changed(self.recipe, adapter_choice.WRITTEN_HERE)
        asked = adapter_choice.with_settings_of(here, self.adapter, observer)
        with self._base_named():
            recipe, _, policy = session.load_policy(backend, asked, observer, trains=False)
        if not self.has_other_base:
            inputs.require_same_model(self.run.root, recipe.model.name, session.sums_of_model(recipe, policy, observer))
        from motif_lite.policies.local import LocalPolicy

        assert isinstance(policy, LocalPolicy)
        policy.load_adapter(self.adapter)
        sixteen_bit: Number = "f16" if is_half(policy.model.name_or_path) else "bf16"
        return Source(recipe, policy, policy.model.dtype, self.adapter, sixteen_bit)

    @contextmanager
    def _base_named(self) -> Iterator[None]:
        """What is wrong with a base from the command line is told by its option, not by the recipe's key."""
        try:
            yield
        except ModelError as error:
            if not self.has_other_base:
                raise
            raise ModelError(str(error).replace("model.name", "--base")) from None

    def _checked(self, source: Source, observer: Observer) -> ExportRecord:
        """Write into the unfinished folder, load what was written, and compare.

        Raises:
            ModelError: It is not adapter and base.
        """
        from motif_lite.exporting import check
        from motif_lite.policies.local import generation_mode

        policy, chosen = source.policy, FORMATS[self.format]
        base_name = policy.model.name_or_path
        replies = check.own_replies(self.run, policy)
        observer.phase("comparing", f"{len(replies)} of the run's replies under adapter and base")
        with generation_mode(policy.model):
            reference = check.logprobs(policy.model, replies, observer.advance)
            with policy.model.disable_adapter():
                base = check.logprobs(policy.model, replies, observer.advance)
        trial = self._trial(policy, replies[0]) if chosen.is_gguf and gguf.has_runtime() else None
        observer.phase("writing", f"{self.to}, format {self.format}")
        chosen.write(source, self.unfinished, self.number)
        if chosen.merges:
            policy.model.to("meta")  # frees its memory: the next model needs as much
        observer.phase("checking", f"{len(replies)} of the run's replies under what was written")
        model = self._exported(source)
        with generation_mode(model):
            exported = check.logprobs(model, replies, observer.advance)
        found, bound = check.difference(exported, reference, base, len(replies)), chosen.bounds[self.number]
        check.require_equal(found, bound, f"{self.to}: the export in format {self.format}")
        stored = self.number or (source.sixteen_bit if chosen.merges else None)
        digest = inputs.of_file(self.adapter / ADAPTER_FILE)
        return ExportRecord(
            run=str(self.run.root), base=base_name, format=self.format, number=stored, adapter=digest or "",
            difference=found, mean_bound=bound.mean, largest_bound=bound.largest,
            runtime=None if trial is None else self._run_by_llama_cpp(trial, observer),
        )  # fmt: skip

    def _exported(self, source: Source) -> Any:
        try:
            return FORMATS[self.format].load(source, self.unfinished)
        except (ValueError, OSError, KeyError, NotImplementedError, RuntimeError) as error:
            reason = str(error).strip().partition("\n")[0][:300]
            raise ModelError(
                f"{self.to}: what was written cannot be loaded again ({reason}), so it cannot be checked; nothing was "
                f"exported"
            ) from None

    def _trial(self, policy: "LocalPolicy", first: "OwnReply") -> Trial:
        """What adapter and base write greedily for a prompt of the run."""
        prompt = policy.tokenizer.decode(first.prompt)
        sampling = Sampling(max_tokens=_NUM_TRIED, temperature=0.0)
        [reply] = policy.generate([prompt], sampling, seeds=[0])
        return Trial(ollama.without_beginning(policy, prompt), len(first.prompt), reply)

    def _run_by_llama_cpp(self, trial: Trial, observer: Observer) -> Runtime:
        observer.phase("checking", "with llama.cpp")
        return gguf.runtime(self.unfinished / gguf.MODEL, trial.prompt, trial.num_tokens, trial.reply)

    def _require_room(self, policy: "LocalPolicy") -> None:
        """Refuse before anything is written what the disk has no room for."""
        chosen = FORMATS[self.format]
        num_weights = sum(weight.numel() for weight in policy.model.parameters()) if chosen.merges else 0
        needed = num_weights * _BYTES[self.number] * (2 if chosen.is_gguf else 1)  # both models for a while
        free = shutil.disk_usage(self.to.parent).free
        if free < needed:
            raise RunError(
                f"{self.to}: needs {needed / 2**30:.1f} GiB, and its disk has {free / 2**30:.1f} GiB left; free some, "
                f"or choose another --to"
            )


def job(
    run: Path,
    to: Path,
    format_name: str,
    number: str | None,
    base: str | None,
    changes: Sequence[str],
    adapter: str | None = None,
) -> ExportJob:
    """Turn a command line into a job.

    Raises:
        MotifError: The run, the place or the format is not fit for it.
    """
    if format_name not in FORMATS:
        raise RunError(
            f"there is no format {format_name!r}{nearest(format_name, FORMATS)}; known: {', '.join(FORMATS)}"
        )
    chosen, stored = FORMATS[format_name], _number(format_name, number)
    if chosen.is_gguf:
        gguf.require()
    directory = RunDirectory.open(run)
    chosen_adapter = adapter_choice.named(directory, adapter)
    found = directory.resolved(checking.TABLES, changes)
    if base is not None:
        _require_base(base, found)
    found = changed(found, {
        "model.backend": "transformers", "model.load_in_4bit": False, "model.fast_inference": False,
        "training.logit_chunks": None, **({"model.name": base} if base else {}),
    })  # fmt: skip
    name, _ = adapters.start_of(found.model.name)
    if is_quantised(name):
        raise ModelError(
            f"{name}: has 4-bit weights only, and an adapter merged into these would be another model; name the 16-bit "
            f"model that they were made from with --base"
        )
    return ExportJob(
        directory, found, places.free(to), format_name, stored or next(iter(chosen.bounds)), base is not None,
        chosen_adapter,
    )  # fmt: skip


def _require_base(base: str, recipe: Recipe) -> None:
    """Refuse a base model next to one that is whole, and a folder that is not there."""
    if not recipe.model.load_in_4bit:
        raise RunError(
            f"--base {base}: names the 16-bit model of a base that was loaded in 4 bits, and this run's, "
            f"{recipe.model.name}, was not; leave it out. If the model lies elsewhere now: --set 'model.name=\"...\"'"
        )
    if adapter_folder.is_path(base) and not adapter_folder.as_folder(base):
        raise ModelError(f"--base {base}: there is no such folder")


def _number(format_name: str, number: str | None) -> Number | None:
    known = [each for each in FORMATS[format_name].bounds if each is not None]
    if number is None or number in known:
        return next((each for each in known if each == number), None)
    takes = f"it takes {', '.join(known)}" if known else "its weights stay as they are"
    raise RunError(f"--quantisation {number} does not go with --format {format_name}: {takes}")
