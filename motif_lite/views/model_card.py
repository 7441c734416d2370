"""The page of a model on the hub, written from the run that trained it.

Nothing in it names a folder of this machine: of a local model or file only the last part of its path is told.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w
from huggingface_hub import ModelCardData

from motif_lite.credits.table import credit_of
from motif_lite.exporting.records import ExportRecord
from motif_lite.figures import in_percent
from motif_lite.planning import hub_name
from motif_lite.recipe.schema import Recipe
from motif_lite.rollout.own_strategy import OwnStrategy
from motif_lite.rollout.strategies.table import STRATEGIES
from motif_lite.runs import accounting
from motif_lite.runs.costs import total as total_of
from motif_lite.runs.directory import RunDirectory
from motif_lite.runs.records import Evaluation, Measurement
from motif_lite.views.formats import about_gains, confidence_in_words, duration, gain


@dataclass(frozen=True, slots=True)
class Published:
    """What the page is about.

    Attributes:
        name: On the hub.
        recipe: The run's.
        licence: Of the base model, by the hub's name for it; None where it is not known.
    """

    name: str
    recipe: Recipe
    run: RunDirectory
    export: ExportRecord
    licence: str | None


def text(about: Published) -> str:
    """The whole page, README.md."""
    return f"---\n{_metadata(about).to_yaml()}\n---\n\n" + "\n".join(_lines(about)) + "\n"


def public_name(name: str) -> str:
    """The name of a model, a data set or a file, without the folders of this machine."""
    is_path = name.startswith(("/", "~", ".")) or (not hub_name.is_full(name) and "/" in name)
    return Path(name).name if is_path else name


def base_on_hub(about: Published) -> str | None:
    """The base model's name on the hub; None where it is a local folder."""
    base = about.recipe.model.name
    return base if hub_name.is_full(base) and not Path(base).exists() else None


def _metadata(about: Published) -> ModelCardData:
    is_adapter = about.export.format == "adapter"
    return ModelCardData(
        base_model=base_on_hub(about),
        license=about.licence,
        library_name="peft" if is_adapter else "transformers",
        pipeline_tag="text-generation",
        tags=["motif", "grpo", "multi-round", "reasoning", *(["lora"] if is_adapter else [])],
    )


def _lines(about: Published) -> Iterator[str]:
    recipe, rollout = about.recipe, about.recipe.rollout
    base, kind = public_name(recipe.model.name), "LoRA adapter" if about.export.format == "adapter" else "merged model"
    rounds = "in one round" if rollout.strategy == "single_round" else f"in {rollout.num_rounds} rounds"
    yield f"# {about.name}\n"
    yield (
        f"A {kind} of `{base}`, trained to reason {rounds} with GRPO (MOTIF, [arXiv 2507.02851]"
        f"(https://arxiv.org/abs/2507.02851)) by motif_lite.\n"
    )
    yield "| | |\n|---|---|"
    yield f"| base model | `{base}` |"
    yield f"| licence of the base model | {about.licence or 'unknown: see its own page'} |"
    yield f"| training data | `{public_name(recipe.data.train)}` |"
    yield f"| method | GRPO; {credit_of(recipe).summary} |"
    yield f"| groups | {rollout.num_openings} first rounds per problem{_continued(recipe)} |"
    if section := recipe.warm_start:
        imitated = "right solutions of the base's own, cut into rounds"
        yield f"| warm start | {section.num_steps} supervised steps on {imitated} |"
    yield f"| adapter | rank {recipe.lora.rank}, alpha {recipe.lora.alpha} |"
    yield from _costs(about.run)
    yield from _accuracies(recipe, about.run.evaluation())
    yield from _use(about)
    yield from _check(about.export)
    yield "## Recipe\n\n````toml"
    yield f"{tomli_w.dumps(_public_recipe(recipe)).rstrip()}\n````"


def _continued(recipe: Recipe) -> str:
    if recipe.rollout.strategy == "single_round":
        return ""
    number = credit_of(recipe).futures_per_opening(recipe)
    return f", {number} continuation{'s' if number > 1 else ''} each"


def _costs(run: RunDirectory) -> Iterator[str]:
    steps = run.metrics()
    costs = accounting.of_training(steps, run.preparing)
    if costs:
        total = total_of(costs)
        yield (
            f"| training | {len(steps):,} steps, {total.generated_tokens:,} generated tokens, "
            f"{duration(total.seconds)} |"
        )


def _accuracies(recipe: Recipe, evaluation: Evaluation) -> Iterator[str]:
    yield f"\n## Accuracy\n\nIn percent, with {confidence_in_words(recipe)} intervals.\n"
    if not evaluation.measurements:
        yield "It was not evaluated.\n"
        return
    yield "| benchmark | thinking | before | after | gain (paired) |\n|---|---|---|---|---|"
    for subject in evaluation.subjects():
        cells = [_cell(evaluation.find(subject, "before")), _cell(evaluation.find(subject, "after"))]
        found = gain(evaluation, subject, recipe.evaluation.confidence) or "-"
        thinking = f"{subject.strategy.removesuffix('_round')}, {subject.decoding}"
        yield f"| {subject.benchmark} | {thinking} | {cells[0]} | {cells[1]} | {_without_markup(found)} |"
    yield f"\n{_without_markup(about)}\n" if (about := about_gains(evaluation)) else ""


def _without_markup(text: str) -> str:
    """Asterisks of a gain as they are: Markdown would take two for emphasis."""
    return text.replace("*", r"\*")


def _cell(found: Measurement | None) -> str:
    return f"{in_percent(found.accuracy, found.interval)} of {found.num_problems}" if found else "-"


def _use(about: Published) -> Iterator[str]:
    base, is_adapter = public_name(about.recipe.model.name), about.export.format == "adapter"
    yield "## Use it in rounds\n"
    yield "Save the recipe below as `recipe.toml`. With motif_lite:\n"
    how = f"--adapter {about.name}" if is_adapter else f"--set 'model.name=\"{about.name}\"'"
    yield f"    python run.py solve --recipe recipe.toml {how}"
    yield f"    python run.py serve --recipe recipe.toml {how}\n"
    name = about.recipe.rollout.strategy
    strategy = STRATEGIES[name](about.recipe.rollout) if name in STRATEGIES else OwnStrategy
    yield f"{strategy.summary} To load it:\n"
    yield "```python"
    yield "from transformers import AutoModelForCausalLM, AutoTokenizer\n"
    if is_adapter:
        yield f"from peft import PeftModel\n\nmodel = AutoModelForCausalLM.from_pretrained({base!r})"
        yield f"model = PeftModel.from_pretrained(model, {about.name!r})"
    else:
        yield f"model = AutoModelForCausalLM.from_pretrained({about.name!r})"
    yield f"tokenizer = AutoTokenizer.from_pretrained({about.name!r})\n```\n"


def _check(found: ExportRecord) -> Iterator[str]:
    difference = found.difference
    yield (
        f"## Check of the files\n\nLog-probabilities of {difference.tokens} tokens of the run's own replies, under "
        f"these files and under adapter and base: they differ by {difference.mean:.3g} on average and by "
        f"{difference.largest:.3g} at most.\n"
    )


def _public_recipe(recipe: Recipe) -> dict[str, Any]:
    """The recipe without paths of this machine, addresses of servers and what was not set."""
    of_servers: dict[str, Any] = {"model": {"url", "extra_body"}, "rollout": {"server", "server_folder"}}
    if recipe.rollout.server is not None:
        of_servers["model"] |= {"requests", "request_seconds"}
    found = recipe.model_dump(mode="json", exclude_none=True, exclude={"code": True, **of_servers})
    found["model"]["name"] = public_name(recipe.model.name)
    found["data"]["train"] = public_name(recipe.data.train)
    sections = [*found["evaluation"]["benchmarks"].values()]
    sections += [found["evaluation"]["validation"]] if recipe.evaluation.validation else []
    for section in sections:
        section["source"] = public_name(section["source"])
    return found
