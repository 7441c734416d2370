"""A cold start made warm: before GRPO begins, the adapter imitates the base's own right solutions, cut into rounds.

    problems -> solutions under a plain prompt -> right ones, cut into rounds -> supervised steps -> adapter

For a model that seldom keeps the form or the rounds: its first steps of GRPO would teach nothing but that.

Imports TRL, so it is imported only after the policy has been loaded, see `training`.
"""

from collections.abc import Sequence

from motif_lite.context import RunContext
from motif_lite.errors import DataError
from motif_lite.nouns import Problem
from motif_lite.policies.protocol import trainable
from motif_lite.recipe.schema import WarmStartSection
from motif_lite.runs import preparing, sealing
from motif_lite.runs.warm_start import Sampled, WarmStart
from motif_lite.training.demonstrations import demonstrate
from motif_lite.training.imitation import imitate


def warm_started(context: RunContext, problems: Sequence[Problem]) -> None:
    """Do what is left of the recipe's warm start, if it asks for one; the policy has its adapter afterwards.

    Raises:
        DataError: No plain prompt fits the context, too few solutions were right and could be cut, or nothing of the
            budget is left.
        RunError: A file of it is damaged or cannot be written.
        TrainingError: A supervised step fails.
    """
    section = context.recipe.warm_start
    if section is None:
        return
    files = WarmStart(context.run.root)
    damage = sealing.damage(files.adapter)
    if damage or files.sampled() is None:
        if damage and files.adapter.exists():
            context.observer.note(f"{files.adapter}: is damaged ({damage}); the supervised steps are done again")
        sampled = demonstrate(context, section, problems)
        told = _told(sampled)
        _require_enough(section, sampled, told)
        context.observer.note(told)
        imitate(context, section, files.examples())
        first, last = files.steps()[0], files.steps()[-1]
        context.observer.note(
            f"warm_start: {last.step} supervised steps, loss {first.loss:.3f} in the first and {last.loss:.3f} in the "
            f"last one"
        )
    files.drop_checkpoints()  # the process may have ended between the adapter and this
    trainable(context.policy).load_adapter(files.adapter)
    preparing.require_some_left(context.recipe.training, context.run.spent())


def _told(sampled: Sampled) -> str:
    left_out = "".join(
        f"; {number} right solutions of {sampled.problems_left_out.get(reason, 'some')} problems {reason}"
        for reason, number in sampled.left_out.items()
    )
    if sampled.num_long:
        left_out += f"; {sampled.num_long} problems were not asked, as their plain prompts leave no room for a solution"
    examples = sum(sampled.examples_by_round)
    return (
        f"warm_start: {sampled.num_solved} of {sampled.num_problems} problems were solved, solutions of "
        f"{sampled.num_cut} were cut into {examples} examples ({sampled.cost.generated_tokens:,} tokens){left_out}"
    )


def _require_enough(section: WarmStartSection, sampled: Sampled, told: str) -> None:
    if sum(sampled.examples_by_round) < section.examples_per_step:
        raise DataError(
            f"{told}: too few for warm_start.examples_per_step = {section.examples_per_step}; what was written is in "
            f"warm_start/solutions.jsonl. Start a new run with more warm_start.num_problems or num_samples, a longer "
            f"warm_start.max_tokens, other data.train, fewer examples_per_step, or without [warm_start]"
        )
