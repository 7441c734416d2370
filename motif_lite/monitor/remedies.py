"""What to do about a warning: the recipe's keys with values to try, ready for the command line.

What is learned may not change when a run is resumed, so nearly all of them mean a new run.
"""

from typing import Literal

from motif_lite.credits.chain import ChainCredit
from motif_lite.credits.table import credit_of
from motif_lite.recipe.schema import MOST_REPLIES, Recipe

FREE_THE_MACHINE = (
    "free memory or processors, e.g. stop other programs, and continue with --resume: when memory runs out, the system "
    "kills processes"
)
"""Against comparisons of answers that something else than their limits ends."""

_FORM_REWARDS = ("tag_count", "soft_format", "strict_format")


def doubled(number: int) -> int:
    """Twice as many openings, or futures, as far as a recipe takes them."""
    return min(2 * number, MOST_REPLIES)


def more_form(recipe: Recipe) -> str:
    """Against replies that lose their form."""
    weights = (f"--set rewards.{name}={2 * max(recipe.rewards.get(name, 0.0), 0.5):g}" for name in _FORM_REWARDS)
    return f"a new run with {_slower(recipe)}, or with more weight on form: {' '.join(weights)}"


def fewer_cut_off(recipe: Recipe, phase: Literal["openings", "futures"]) -> str:
    """Against replies that reach their token limit."""
    return (
        f"a new run with {_slower(recipe)}; if the replies in rollouts.jsonl make sense to the end, raise the limit: "
        f"{longer_replies(recipe, phase)}"
    )


def longer_replies(recipe: Recipe, phase: Literal["openings", "futures"]) -> str:
    """The ``--set`` changes that double a token limit, with the context that this needs."""
    limit = 2 * getattr(recipe.rollout, phase).max_tokens
    longer = f"--set rollout.{phase}.max_tokens={limit}"
    needed = recipe.rollout.max_prompt_tokens + recipe.rollout.notice_tokens + limit
    if needed > recipe.model.max_seq_length:
        longer += f" --set model.max_seq_length={needed}"
    return longer


def steadier(recipe: Recipe, good_until: int) -> str:
    """Against accuracy that falls.

    Args:
        good_until: The step at which it was highest; 0 where that is not known, or was before the first step.
    """
    end = f", {_end_at(good_until)}" if good_until else ""
    return f"a new run with {_slower(recipe)}{end}"


def steadier_later_rounds(recipe: Recipe, good_until: int) -> str:
    """Against later rounds that drift."""
    trained = ""
    if not credit_of(recipe).trains_later_rounds:  # what is not trained drifts with what is
        trained = f"a new run that trains every round: {' '.join(ChainCredit().flags(recipe))}; or "
    return trained + steadier(recipe, good_until)


def more_signal(recipe: Recipe, step: int, accuracy: float, *, has_fallen: bool) -> str:
    """Against groups whose openings all earn the same.

    Args:
        step: At which this was seen.
        accuracy: In training, lately.
        has_fallen: Whether it was higher once.
    """
    more = f"--set rollout.num_openings={doubled(recipe.rollout.num_openings)}"
    if has_fallen:
        return f"accuracy has fallen and rarely recovers: a new run with {_slower(recipe)}"
    if accuracy >= 0.9:
        return f"these problems are easy: harder ones (data.train), or an end here, --set training.max_steps={step}"
    if accuracy <= 0.1:
        return (
            f"if the replies in rollouts.jsonl make sense, the problems are too hard: a new run with easier ones "
            f"(data.train), or with {more}; if they do not, one with {_slower(recipe)}"
        )
    varied = f"a new run with more openings, {more}"
    if recipe.training.importance_cap is None:  # which compares probabilities at temperature 1 alone
        varied += f", or with more varied ones, {_hotter(recipe)}"
    if _can_select(recipe):
        varied += ", or one on problems that are solved sometimes, --set data.select={}"
    if not recipe.data.refill and recipe.data.raise_above is None:  # which looks at all problems of a level
        varied += f", or one that asks others in their place, --set data.refill={2 * recipe.training.problems_per_step}"
    return varied


def _hotter(recipe: Recipe) -> str:
    phases = ("openings", "futures") if credit_of(recipe).same_sampling else ("openings",)
    temperature = min(5.0, recipe.rollout.openings.temperature + 0.2)
    return " ".join(f"--set rollout.{phase}.temperature={temperature:.2g}" for phase in phases)


def more_of_accuracy(recipe: Recipe, step: int, accuracy: float, *, has_fallen: bool) -> str:
    """Against groups that are trained on form alone.

    Args:
        step: At which this was seen.
        accuracy: In training, lately.
        has_fallen: Whether it was higher once.
    """
    has_gate = "gated_accuracy" in recipe.rewards or recipe.rollout.strategy == "delethink"  # whose chunks have no form
    gate = [] if has_gate else ["--set 'rewards={gated_accuracy=1.0}'"]
    if accuracy > 0.1 or has_fallen:
        signal = more_signal(recipe, step, accuracy, has_fallen=has_fallen)
        return "; or a new run in which form is no more than a gate, ".join((signal, *gate))
    ways = [f"counts accuracy where the form is kept, and nothing else, {change}" for change in gate]
    if _can_select(recipe):
        ways.insert(0, "is on problems that are solved sometimes, --set data.select={}")
    if recipe.warm_start is None and recipe.rollout.strategy in ("multi_round", "single_round"):
        ways.insert(0, "begins with right solutions of the model's own, --set warm_start={}")
    look = "look whether last replies in rollouts.jsonl have their answers in \\boxed{}, for no others count"
    sensible = f"; if they do, or have no box, one that {', or '.join(ways)}" if ways else ""
    return f"{look}; if they make no sense, a new run with {_slower(recipe)}{sensible}"


def less_noise(recipe: Recipe) -> str:
    """Against rewards that are mostly sampling noise."""
    changes = [f"--set rollout.num_futures={doubled(recipe.rollout.num_futures)}"]
    if (
        recipe.rollout.allocation == "fixed"
        and recipe.rollout.strategy == "multi_round"
        and credit_of(recipe).shares_futures
    ):
        changes.append("--set 'rollout.allocation=\"adaptive\"'")
    is_summed = recipe.training.multi_objective_aggregation == "sum_then_normalize"
    if recipe.training.scale_rewards == "group" and is_summed:  # which blows noise up where a group has nothing else
        changes.append("--set 'training.scale_rewards=\"none\"'")
    return f"a new run with one or more of {', '.join(changes)}"


def better_on_new_problems(recipe: Recipe, best_step: int) -> str:
    """Against a reward that rises alone."""
    end = f"{_end_at(best_step)}, " if best_step else ""
    return f"a new run with {_slower(recipe)}, {end}or with more problems (data.train, data.num_problems)"


def gradable(recipe: Recipe) -> str:
    """Against answers that the grader cannot compare within its limits."""
    return (
        f"look at these answers in rollouts.jsonl; if the model writes what nobody could compute, such as towers of "
        f"powers, a new run with {_slower(recipe)}"
    )


def _can_select(recipe: Recipe) -> bool:
    """Whether nothing is selected yet, and may be."""
    return recipe.data.select is None and recipe.data.curriculum is None


def _slower(recipe: Recipe) -> str:
    return f"--set training.learning_rate={recipe.training.learning_rate / 3:.2g}"


def _end_at(step: int) -> str:
    return f"one that ends where accuracy was highest: --set training.max_steps={step}"
