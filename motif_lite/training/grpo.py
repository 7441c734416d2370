"""A recipe to GRPO: what TRL's trainer is told, and what is written down after each of its steps.

What happens within a step, rollouts and rewards, is in `step`.

TRL is imported at the top, so this module is itself imported only after the policy has been loaded: Unsloth
replaces TRL's trainer when it is imported.
"""

import logging
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import datasets
from transformers import PrinterCallback, ProgressCallback

from motif_lite.credits.base import RoundsCredit
from motif_lite.evaluation.validation import Validation
from motif_lite.loggers.recording import Loggers, recorded
from motif_lite.nouns import Problem
from motif_lite.policies.packing.packed_model import can_pack
from motif_lite.policies.protocol import TrainablePolicy
from motif_lite.recipe.schema import Recipe
from motif_lite.rollout.strategies import Strategy
from motif_lite.runs.directory import RunDirectory
from motif_lite.training.callback import StepCallback
from motif_lite.training.context import Stopping, TrainingContext
from motif_lite.training.curriculum import plan_of
from motif_lite.training.determinism import settings_in_order
from motif_lite.training.opening_step import OpeningStep
from motif_lite.training.options import grpo_config
from motif_lite.training.order import order_of
from motif_lite.training.rounds_step import RoundsStep
from motif_lite.training.step import TrainingStep
from motif_lite.training.trainer import Trainer

_log = logging.getLogger(__name__)


def train(context: TrainingContext, validation: Validation, stop: Stopping) -> bool:
    """Train from the run's newest checkpoint, or from the start, and save the adapter.

    Args:
        validation: Measures along the way.
        stop: Told where a step begins and ends; a stop inside one finishes and saves it first.

    Returns:
        Whether training is complete; False if it was stopped, or paused.

    Raises:
        RunError: A checkpoint cannot be written, or all there are are damaged.
        TrainingError: A reward fails, gradients are not numbers for several steps, or memory runs out.
    """
    run, policy, ranks = context.run, context.policy, context.ranks
    settings_in_order(policy.model)
    name, step_reached = ranks.from_main(tuple[str, int], _resumed(run, validation) if ranks.is_main else None)
    folder = Path(name) if name else None
    step = step_of(context)
    with recorded(context) if ranks.is_main else nullcontext(Loggers(context.recipe, {})) as loggers:
        callback = StepCallback(context, step, validation, stop, loggers)
        trainer = trainer_of(context, step, callback)
        if folder is not None and callback.pauses:
            policy.load_adapter(folder)  # the process before ended between the last checkpoint and the adapter
            callback.finish()
        else:
            trainer.train(resume_from_checkpoint=str(folder) if folder else None)
            step_reached = trainer.steps_done
        if callback.is_done and ranks.is_main:  # before the loggers are closed, which may wait for a network
            run.save_adapter(step_reached, policy.save_adapter)
    if callback.pauses and ranks.is_main:
        run.clear_unfinished()
    return callback.is_done


def _resumed(run: RunDirectory, validation: Validation) -> tuple[str, int]:
    """The folder of the newest checkpoint, empty where there is none, and its step, with all later lines dropped."""
    run.clear_unfinished()
    folder, step_reached = run.newest_checkpoint() or ("", 0)
    run.forget_after(step_reached)
    validation.resume_at(step_reached)
    return str(folder), step_reached


def step_of(context: TrainingContext) -> TrainingStep:
    """Where the step's rollouts come from: from TRL, or where the credit trains rounds, from here."""
    credit = context.credit
    return RoundsStep(context, credit) if isinstance(credit, RoundsCredit) else OpeningStep(context)


def trainer_of(context: TrainingContext, step: TrainingStep, callback: StepCallback) -> Trainer:
    """TRL's trainer with our rewards and our callback, and without its own output."""
    recipe, policy = context.recipe, context.policy
    packs = _packs(context)
    plan = plan_of(recipe.data, lambda: [line.accuracy for line in callback.metrics])
    trainer = Trainer(
        context,
        step=step,
        order=partial(order_of, plan, [each.level for each in context.problems]),
        model=policy.model,
        processing_class=policy.tokenizer,
        reward_funcs=step.reward_callables(),
        args=grpo_config(recipe, policy, context.run.unfinished, whole=packs or context.ranks.count > 1),
        train_dataset=_rows(policy, context.strategy, context.problems),
        callbacks=[callback],
        learning_rate_factor=callback.learning_rate_factor if _has_budget(recipe) else None,
        packs=packs,
        saving=callback.stop.saving,
    )
    _log.info("training with %s; %s", type(trainer).__base__, _versions())
    for console_of_its_own in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(console_of_its_own)
    return trainer


def _packs(context: TrainingContext) -> bool:
    """Whether an update computes once what rows have in common; says so where the model does not allow it."""
    if context.recipe.model.backend != "transformers":
        return False  # Unsloth has its own way
    packs = can_pack(context.policy)
    if not packs:
        context.observer.note(
            f"{context.policy.model.name_or_path}: the update computes each row's prompt by itself: rows of this model "
            f"cannot share it, which takes longer and more memory"
        )
    return packs


def _has_budget(recipe: Recipe) -> bool:
    """Whether something else than the number of steps may end the run."""
    return recipe.training.until_tokens is not None or recipe.training.until_seconds is not None


def _rows(policy: TrainablePolicy, strategy: Strategy, problems: Sequence[Problem]) -> datasets.Dataset:
    prompts = [policy.plain(strategy.first_messages(problem)) for problem in problems]
    return datasets.Dataset.from_list(
        [{"prompt": prompt, "problem_id": problem.id} for prompt, problem in zip(prompts, problems, strict=True)]
    )


def _versions() -> str:
    """The libraries that this run trains with, for run.log."""
    names = [name for name in ("unsloth", "unsloth_zoo", "trl", "transformers", "peft", "torch") if name in sys.modules]
    return ", ".join(f"{name} {sys.modules[name].__version__}" for name in names)
