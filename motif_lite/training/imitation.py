"""Supervised steps on given rounds, by TRL's SFTTrainer or Unsloth's version of it: the loss is that of replies alone.

They go on from their newest checkpoint, and end with a sealed adapter. Rows have an order of our own, in which nothing
is drawn, so a resumed run finds it again by skipping what was trained.

Imports TRL, so it is imported only after the policy has been loaded, see `training`.
"""

import gc
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
import torch
from torch.utils.data import Sampler, SequentialSampler
from transformers import PrinterCallback, ProgressCallback, TrainerCallback, TrainerControl, TrainerState
from trl import SFTTrainer

from motif_lite.context import RunContext
from motif_lite.errors import TrainingError
from motif_lite.planning.metering import PhaseMeter
from motif_lite.policies.out_of_memory import MEMORY_ERRORS, is_out_of_memory
from motif_lite.policies.protocol import TrainablePolicy, trainable
from motif_lite.recipe.schema import WarmStartSection
from motif_lite.rollout.rollouts import derive_seed
from motif_lite.runs.warm_start import Example, SupervisedStep, WarmStart
from motif_lite.training.determinism import deterministic, settings_in_order
from motif_lite.training.gradients import gradient_norm
from motif_lite.training.options import sft_config
from motif_lite.training.saving import SavingClock, kept

_IGNORED = -100
"""Label of tokens without a loss."""


def imitate(context: RunContext, section: WarmStartSection, examples: Sequence[Example]) -> None:
    """Perform the supervised steps that are left, and seal the adapter.

    Raises:
        RunError: A checkpoint cannot be written, or all there are are damaged.
        TrainingError: A loss is no number, or memory runs out.
    """
    files, policy, run = WarmStart(context.run.root), trainable(context.policy), context.run
    run.clear_unfinished()
    settings_in_order(policy.model)
    folder, step_reached = files.newest_checkpoint()
    context.observer.phase("warm start", f"{section.num_steps} supervised steps on {len(examples)} examples")
    context.observer.advance(step_reached, section.num_steps)
    if folder is not None and step_reached == section.num_steps:
        policy.load_adapter(folder)  # the process before ended between the last checkpoint and the adapter
    else:
        _train(context, section, examples, folder)
    run.save_adapter(section.num_steps, policy.save_adapter, files.adapter)
    files.drop_checkpoints()
    run.clear_unfinished()


def _train(context: RunContext, section: WarmStartSection, examples: Sequence[Example], folder: Path | None) -> None:
    policy = trainable(context.policy)
    rows = [_row(policy, example) for example in examples]
    order = _order(context.recipe.seed, len(rows), section.num_steps * section.examples_per_step)
    trained = [sum(label != _IGNORED for label in rows[index]["labels"]) for index in order]
    with _put_back(policy.model):
        trainer = _Trainer(
            context,
            model=policy.model,
            processing_class=policy.tokenizer,
            args=sft_config(context.recipe, section, policy, context.run.unfinished),
            train_dataset=datasets.Dataset.from_list(rows).select(order),
            data_collator=_collated,
            callbacks=[_Steps(context, section, trained)],
        )
        for console_of_its_own in (PrinterCallback, ProgressCallback):
            trainer.remove_callback(console_of_its_own)
        try:
            with deterministic(policy.model.device):
                trainer.train(resume_from_checkpoint=str(folder) if folder else None)
        except MEMORY_ERRORS as error:
            if not is_out_of_memory(error):
                raise
            raise TrainingError(
                "out of memory in a supervised step of warm_start, which takes one example at a time; start a new run "
                "with a shorter warm_start.max_tokens or rollout.max_prompt_tokens, or a smaller model"
            ) from error
        finally:
            del trainer
            gc.collect()  # its parts refer to each other, and the optimizer is among them


def _row(policy: TrainablePolicy, example: Example) -> dict[str, list[int]]:
    prompt, reply = policy.encode(example.prompt), policy.encode_reply(example.reply)
    return {"input_ids": [*prompt, *reply], "labels": [*[_IGNORED] * len(prompt), *reply]}


def _collated(rows: Sequence[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    """A batch of one row ``(1, T)``."""
    [row] = rows
    ids = torch.tensor([row["input_ids"]])
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": torch.tensor([row["labels"]])}


def _order(seed: int, num_rows: int, length: int) -> list[int]:
    """So many rows: all of them, then all of them again, in another order each time."""
    order: list[int] = []
    while len(order) < length:
        epoch = list(range(num_rows))
        random.Random(derive_seed(seed, "warm start", "epoch", len(order) // num_rows)).shuffle(epoch)
        order += epoch
    return order[:length]


@contextmanager
def _put_back(model: Any) -> Iterator[None]:
    """What TRL changes about the model but its weights: GRPO finds it as a run does that is resumed here.

    The forward pass is replaced to keep few logits, and accelerate wraps it; tags of its page are added.
    """
    inner = model.get_base_model()
    before = [(module, name, vars(module).get(name)) for module in (model, inner) for name in ("forward", "model_tags")]
    before = [
        (module, name, list(value) if name == "model_tags" and value else value) for module, name, value in before
    ]
    try:
        yield
    finally:
        for module, name, value in before:
            vars(module).pop(name, None)
            if value is not None:
                setattr(module, name, value)


class _Steps(TrainerCallback):
    """Times each supervised step, writes it down, and says when one is saved.

    Args:
        trained: Tokens of each row's reply, in the order in which rows are trained.
    """

    def __init__(self, context: RunContext, section: WarmStartSection, trained: Sequence[int]) -> None:
        self._files, self._observer, self._section = WarmStart(context.run.root), context.observer, section
        self._trained, self._saving = trained, SavingClock()
        self._meter = PhaseMeter(context.policy.device_type)

    def on_step_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._meter.start("update")

    def on_pre_optimizer_step(
        self, args: Any, state: TrainerState, control: TrainerControl, model: Any, **_: Any
    ) -> None:
        """Stop before a gradient that is not a number makes the adapter so."""
        if not gradient_norm(model).isfinite():
            raise TrainingError(
                f"warm_start: the gradient of supervised step {state.global_step + 1} is not a number; start a new run "
                f"with a lower warm_start.learning_rate, or with model.dtype = 'float32'"
            )

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._meter.stop()
        control.should_save = control.should_save or self._saving.is_due()

    def on_log(
        self, args: Any, state: TrainerState, control: TrainerControl, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        if not logs or "loss" not in logs:
            return  # the summary after the last step
        step, size, loss = state.global_step, self._section.examples_per_step, float(logs["loss"])
        seconds, peaks = self._meter.take()
        self._files.append_step(
            SupervisedStep(
                step=step,
                loss=loss,
                learning_rate=float(logs["learning_rate"]),
                trained_tokens=sum(self._trained[(step - 1) * size : step * size]),
                seconds=seconds["update"],
                peak_memory_bytes=peaks.get("update", 0),
            )
        )
        self._observer.advance(step, self._section.num_steps)
        self._saving.begin()

    def on_save(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._saving.end()


class _Trainer(SFTTrainer):
    """TRL's, with rows in the order that they have, and checkpoints that are sealed.

    Args:
        options: For TRL.
    """

    def __init__(self, context: RunContext, **options: Any) -> None:
        super().__init__(**options)
        self._run, self._files = context.run, WarmStart(context.run.root)

    def _get_train_sampler(self, dataset: Any = None) -> Sampler[int]:
        return SequentialSampler(dataset if dataset is not None else self.train_dataset)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        what = f"{self._files.folder}: supervised step"
        with kept(self._run, self._files.keep_checkpoint, self.state.global_step, what=what):
            super()._save_checkpoint(model, trial)
