"""TRL's trainer, or Unsloth's version of it, with our saving, out-of-memory handling and advantages.

Where later rounds are trained, they come with advantages of their own (`step`). TRL and transformers count updates; a
step of the run is its rollouts with all ``training.num_iterations`` updates that use them. Nothing is logged or saved
between these, so no checkpoint has to hold rollouts. A checkpoint counts once it is sealed (`sealing`). An update that
does not fit into memory is repeated in smaller pieces, with the same gradient: only sums of numbers are made in another
order.

Imports TRL, so it is imported only after the policy has been loaded, see `training`.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR
from trl import GRPOTrainer

from motif_lite.errors import TrainingError
from motif_lite.planning.metering import give_back
from motif_lite.policies.out_of_memory import free_memory_of, is_out_of_memory
from motif_lite.recipe.schema import decided
from motif_lite.training.context import TrainingContext
from motif_lite.training.determinism import deterministic
from motif_lite.training.importance import ImportanceWeights, drawn_logprobs
from motif_lite.training.loss_figures import LossFigures
from motif_lite.training.mismatch import Drawn, Mismatch
from motif_lite.training.old_logprobs import OldLogprobs
from motif_lite.training.order import EpochSampler
from motif_lite.training.packing import Inputs, PackedUpdate, in_rows
from motif_lite.training.saving import UnsavedStep, kept_step
from motif_lite.training.sharing import own_rows, shared, sum_of
from motif_lite.training.step import TrainingStep

_Generated = tuple[list[list[int]], list[list[float]] | None]
"""Token ids of TRL's openings, and their log-probabilities."""

_AVERAGED_OVER_ROWS = ("grpo", "dr_grpo", "sapo", "luspo")
"""Losses of TRL's, by name; others are averaged over tokens."""


class Trainer(GRPOTrainer):
    """The trainer of a run.

    Args:
        context: With the run directory that checkpoints belong in, and the observer, who is told when memory runs out.
        step: Rolls out and rewards; one that trains later rounds samples all of them.
        order: Makes the order of problems of TRL's own.
        learning_rate_factor: By the number of steps done; None where the schedule is one over steps.
        packs: What rows have in common at their beginning is computed once (`packing`).
        saving: Entered while finished steps are saved after a stop.
        options: For TRL.
    """

    current_gradient_accumulation_steps: float
    """Set by transformers; row-averaged losses are divided by it."""

    temperature: float
    """Set by TRL, which divides logits by it."""

    def __init__(
        self,
        context: TrainingContext,
        *,
        step: TrainingStep,
        order: Callable[[Any], EpochSampler],
        learning_rate_factor: Callable[[int], float] | None,
        packs: bool,
        saving: Callable[[], AbstractContextManager[None]],
        **options: Any,
    ) -> None:
        self._learning_rate_factor = learning_rate_factor
        if step.samples_openings:
            options["rollout_func"] = self._roll_out
        super().__init__(**options)
        self._rollout_step, self._order = step, order
        self._policy, self._openings = context.policy, context.recipe.rollout.openings
        self._run, self._observer = context.run, context.observer
        self._training, self._ranks, self._credit = context.recipe.training, context.ranks, context.credit
        self._unsaved, self._saving = UnsavedStep(), saving
        self.add_callback(self._unsaved)  # behind ours: a step is finished when its lines are written
        self._width = decided(self._training.micro_batch_size)
        """Rows in one piece of an update; packed, as many as have no more tokens than so many padded ones."""
        self._packed = PackedUpdate(self.model, self._width) if packs else None
        self._keeps_old = self._training.num_iterations > 1 and context.recipe.model.backend == "transformers"
        """Old log-probabilities are taken from the first update; Unsloth's loss does not give them away."""
        self._logprobs = torch.empty(0)
        """Of the latest forward pass ``(B, T)``."""
        self._weights = ImportanceWeights(self._training.importance_cap, self._metrics["train"])
        self._mismatch = Mismatch(self._logprobs_of, self.model, context)
        self._again = False
        """A micro-batch is being repeated; its rollouts exist already."""
        self._has_inputs = False
        """The rollouts of the step under way are in the buffer."""
        self._figures: LossFigures | None = None
        """Of the latest loss of the micro-batch under way."""
        self._latest: tuple[LossFigures, int]
        """The same, when it is done, and the sum of all its rows (`sharing`)."""

    @property
    def steps_done(self) -> int:
        """Steps of the run, each of which may have several updates."""
        return int(self.state.global_step // self._training.num_iterations)

    def train(self, *arguments: Any, **named: Any) -> Any:
        """As TRL's; on a CPU gradients are added up in one order, and a stop in a step keeps every finished one.

        Raises:
            KeyboardInterrupt: The user stopped it.
        """
        try:
            with deterministic(self.model.device):
                return super().train(*arguments, **named)
        except KeyboardInterrupt:
            if self._unsaved.restore(self.state):
                with self._saving():
                    self._save_checkpoint(self.model, None)
            raise

    def _roll_out(self, prompts: Any, trainer: Any) -> dict[str, Any]:
        """TRL's ``rollout_func``: prompts are first rounds', and do not tell which problem they are of."""
        return self._rollout_step.roll_out(self._problem_ids, self.steps_done)

    def _generate_single_turn(self, prompt_ids: Any, *arguments: Any, **named: Any) -> tuple[Any, Any]:
        """Openings, from the policy where it writes them itself: TRL would take a batch's padding for replies."""
        if not self._policy.writes_openings:
            theirs: tuple[Any, Any] = super()._generate_single_turn(prompt_ids, *arguments, **named)
            return self._ranks.from_main(_Generated, theirs)
        rows, row = self._rollout_step.write_rows(prompt_ids), self.steps_done % len(prompt_ids)
        self._rollout_step.drawn = Drawn(prompt_ids[row], rows[row])
        return [list(reply.token_ids) for reply in rows], drawn_logprobs(self._training, rows)

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        """Rows of a step, with the advantages that our step gives them."""
        inputs = self._rollout_step.asked(inputs, self.train_dataset, self.steps_done)
        self._problem_ids = [row["problem_id"] for row in inputs]
        num_iterations: int = self.args.num_iterations
        try:
            if self._keeps_old:
                self.num_iterations = 1  # TRL asks itself here whether it needs old log-probabilities
            scored = super()._generate_and_score_completions(inputs)
        finally:
            self.num_iterations = num_iterations
        advantages = self._rollout_step.advantages(scored["advantages"].tolist())
        scored["advantages"] = scored["advantages"].new_tensor(advantages)
        if any(left_out := self._rollout_step.left_out()):
            mask = scored["completion_mask"]
            mask[mask.new_tensor(left_out, dtype=torch.bool)] = 0
            scored["num_items_in_batch"] = mask.sum()
        found = self._mismatch.of(self._rollout_step.drawn, self.steps_done + 1)
        if found is not None:
            self._metrics["train"]["sampling_mismatch"].append(found)
        return scored

    def _logprobs_of(self, ids: torch.Tensor, num_tokens: int) -> torch.Tensor:
        """Of the last tokens of rows ``(B, T)``, at temperature 1."""
        temperature, self.temperature = self.temperature, 1.0
        try:
            with self._packed.model.ready() if self._packed else nullcontext():
                found: torch.Tensor = self._get_per_token_logps_and_entropies(
                    self.model, ids, torch.ones_like(ids), num_tokens
                )[0]
                return found
        finally:
            self.temperature = temperature

    def _get_train_sampler(self, dataset: Any = None) -> EpochSampler:
        """TRL's, with an order that a resumed run finds again."""
        return self._order(super()._get_train_sampler(dataset))

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """TRL's own, or one over a budget that is not one of steps."""
        factor = self._learning_rate_factor
        if factor is not None:
            self.lr_scheduler: Any = LambdaLR(optimizer or self.optimizer, lambda step: factor(step))
        return super().create_scheduler(num_training_steps, optimizer)

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """One micro-batch forward and backward, in each process its own rows, and then all have the whole gradient.

        Raises:
            TrainingError: There is not enough memory for a single opening, or before the update.
        """
        if self._ranks.count == 1:
            return self._own_step(model, inputs, num_items_in_batch)
        return shared(self._ranks, model, lambda: (self._own_step(model, inputs, num_items_in_batch), *self._latest))

    def _own_step(self, model: Any, inputs: Any, num_items_in_batch: Any) -> torch.Tensor:
        """One micro-batch forward and backward, in smaller pieces after running out of memory.

        Raises:
            TrainingError: There is not enough memory for a single opening, or before the update.
        """
        self._has_inputs = False
        try:
            with self._packed.model.ready() if self._packed else nullcontext():
                while True:
                    try:
                        if self._again:
                            self._make_earlier_gradients_anew(model)
                        loss: torch.Tensor = super().training_step(model, inputs, num_items_in_batch)
                        return loss
                    except RuntimeError as error:
                        if not is_out_of_memory(error):
                            raise
                        if not self._has_inputs:  # the buffer still holds the rollouts of the step before
                            raise TrainingError(
                                f"out of memory between rollouts and update; everything saved in {self._run.root} is "
                                f"intact; continue with a smaller rollout.max_width, --resume --out {self._run.root}"
                            ) from error
                        self._narrow(error)
                    if self._figures is not None:
                        self._figures.drop()
                    self._again = True
        finally:
            self._again, self._figures = False, None

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """The loss of this process's rows of a micro-batch: its part of the loss of all.

        Of several pieces all but the last have been propagated back already.
        """
        rows, whole = len(inputs["completion_ids"]), self.current_gradient_accumulation_steps
        old = OldLogprobs(inputs) if self._keeps_old else None
        pieces, earlier = self._pieces(own_rows(old.batch if old else inputs, self._ranks)), 0.0
        self._figures = LossFigures(self._metrics["train"])
        self._latest = self._figures, sum_of(old.batch if old else inputs, self._ranks)
        try:
            for number, piece in enumerate(pieces, start=1):
                if self._policy.device_type == "cpu":
                    give_back()
                if self.loss_type in _AVERAGED_OVER_ROWS:  # a piece counts for its share of them
                    parts = rows / len(piece["completion_ids"])
                    self.current_gradient_accumulation_steps = whole * parts  # Unsloth's gradient heeds no other factor
                loss = super().compute_loss(model, self._weights.begin(piece), return_outputs, num_items_in_batch)
                self._figures.end_piece(int(piece["completion_mask"].sum()))
                if old:
                    old.keep(piece, self._logprobs)
                if number < len(pieces):
                    self.accelerator.backward(loss)
                    earlier += loss.detach()
        finally:
            self.current_gradient_accumulation_steps = whole
        self._figures.end()
        if old:
            old.end()
        total: torch.Tensor = loss + earlier
        return total

    def _pieces(self, inputs: Inputs) -> list[Inputs]:
        """A micro-batch in parts, each of which fits into memory with what its backward pass needs."""
        return self._packed.pieces(inputs) if self._packed else in_rows(inputs, self._width)

    def _get_per_token_logps_and_entropies(
        self, model: Any, input_ids: Any, attention_mask: Any, logits_to_keep: int, *arguments: Any, **named: Any
    ) -> Any:
        """Log-probabilities and entropies of replies, ``(B, logits_to_keep)`` each, and no loss of experts."""
        if self._packed is None:
            found = super()._get_per_token_logps_and_entropies(
                model, input_ids, attention_mask, logits_to_keep, *arguments, **named
            )
        else:
            with self.accelerator.autocast():
                computed = self._packed.logprobs(input_ids, attention_mask, logits_to_keep, self.temperature)
            found = (*computed, None)
        if self._keeps_old:
            self._logprobs = found[0].detach()  # a reference to the graph would keep its memory past the update
        self._weights.weigh(found[0])
        return found

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        inputs = self._buffered_inputs[self._place] if self._again else super()._prepare_inputs(generation_batch)
        self._has_inputs = True
        return inputs

    @property
    def _place(self) -> int:
        """Of the current micro-batch in its step."""
        return int(self._step % self.args.steps_per_generation)

    def _narrow(self, error: RuntimeError) -> None:
        """Go on with the next smaller width that divides a micro-batch; of packed rows, with single ones at last."""
        rows = decided(self._training.micro_batch_size)
        if self._width > 1:
            self._width = max(width for width in range(1, self._width) if rows % width == 0)
        elif self._packed is None or self._packed.bounds_rows:
            phase = "futures" if self._credit.trains_later_rounds else "openings"
            raise TrainingError(
                f"out of memory in the update of a single {self._credit.row}; what was saved in {self._run.root} is "
                f"whole, but continuing needs a new run with a shorter rollout.{phase}.max_tokens, or a smaller model"
            ) from error
        if self._packed is not None:
            self._packed.narrow(self._width)
        hint = f"; set training.micro_batch_size = {self._width} to start there" if self._width < rows else ""
        self._observer.note(
            f"out of memory in the update: continuing with {self._width} {self._credit.row}s at a time{hint}"
        )
        free_memory_of(error)

    def _make_earlier_gradients_anew(self, model: Any) -> None:
        """What went wrong may have left half a gradient: begin the step's update from its first micro-batch."""
        model.zero_grad()
        for inputs in self._buffered_inputs[: self._place]:
            with self.compute_loss_context_manager():
                loss = self.compute_loss(model, inputs)
            if self._figures is not None:
                self._figures.drop()  # they are logged already
            self.accelerator.backward(loss)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        if self._ranks.is_main:
            with kept_step(self._run, self.steps_done, self.state.global_step, self._training):
                super()._save_checkpoint(model, trial)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        self._policy.load_adapter(Path(resume_from_checkpoint))  # with beta transformers would load TRL's "ref" alone
