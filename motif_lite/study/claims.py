"""Which of a study's claims survive, in words."""

from statistics import fmean

from motif_lite.study.catching_up import Json
from motif_lite.study.cells import label, points

SURVIVES = "Survives"

_WORTH_CLAIMING = 0.05
"""An interval that contains zero and a gain of more than this, as an accuracy, leaves the claim open."""


def claims(found: Json) -> list[str]:
    """Which of the study's claims survive, and what the base model gave away of the benchmark."""
    said = []
    for name in found["comparisons"]:
        variant = found["variants"][name]
        if variant.get("claim"):
            said.append(f"{_claim(found, name)}.")
        said += _short_votes(found, name)
    said += [_left_out(each) for each in found.get("left_out", {}).values()]
    for name, variant in found["variants"].items():
        if variant.get("memorisation"):
            said.append(_memory(label(found, name), variant["memorisation"]))
    return said


def _claim(found: Json, name: str) -> str:
    """Whether a claim survives, and what says so."""
    claim, comparison, confidence = found["variants"][name]["claim"], found["comparisons"][name], found["confidence"]
    reference, own = label(found, found["reference"]), label(found, name)
    where = ", on these problems" if found["all_seeds_have_the_same_problems"] else ""
    standing = _standing(comparison["over_seeds"], confidence)
    by = f"{reference} less {own}: {points(_turned(comparison['over_seeds']))} points{where}"
    gains = comparison["gains"]
    if not gains or gains["reference"]["interval"] is None:
        return f"**{standing}**: {claim} ({by})"
    all_of_it, its = gains["reference"], gains["own"]
    over = label(found, gains["over"])
    if all_of_it["interval"][0] <= 0:
        return f"**Nothing to explain**: {claim} ({reference} less {over}: {points(all_of_it)} points{where})"
    by += f"; gains over {over}: {points(all_of_it)} and {points(its)}"
    if its["interval"] is None or its["interval"][0] <= 0:
        return f"**{standing}**: {claim} ({by})"
    share = f"{own} has {100 * its['mean'] / all_of_it['mean']:.0f} % of the gain"
    return f"**{'Survives in part' if standing == SURVIVES else standing}**: {claim} ({share}; {by})"


def _turned(test: Json) -> Json:
    """The reference's accuracy less the variant's, as claims are about the reference."""
    mean, interval = test["mean"], test["interval"]
    return {
        "mean": None if mean is None else -mean,
        "interval": None if interval is None else (-interval[1], -interval[0]),
    }


def _left_out(variant: Json) -> str:
    """That a variant does not go with the recipe, and what is therefore not tested."""
    claim = f"**Not tested**: {variant['claim']}. " if variant["claim"] else ""
    return f"{claim}{variant['label']} is left out, as its recipe is refused: {variant['why']}."


def _standing(test: Json, confidence: float) -> str:
    """Whether the reference is better; differences are the variant's less the reference's."""
    if test["num_seeds"] == 0:
        return "Not measured yet"
    if test["num_seeds"] == 1:
        return "One seed, no claim"
    if test["interval"] is None:
        return "No spread over seeds, no claim" if test["mean"] else "Does not survive"
    low, high = test["interval"]
    if low > 0:
        return "Does not survive, the opposite holds"
    if high >= 0:
        return "Undecided" if low < -_WORTH_CLAIMING else "Does not survive"
    return SURVIVES if test["p_value_holm"] < 1 - confidence else "A hint, no proof"


def _short_votes(found: Json, name: str) -> list[str]:
    """That a vote had fewer samples than an answer of the reference costs, so tokens are not equal."""
    seeds = [seed for seed in found["variants"][name]["seeds"].values() if "votes" in seed]
    if all(seed["votes"] == seed["votes_wanted"] for seed in seeds):
        return []
    most = max(seed["votes_wanted"] for seed in seeds)
    return [
        f"{label(found, name)} had {min(seed['votes'] for seed in seeds)} samples to vote, and one answer of "
        f"{label(found, found['reference'])} costs up to {most}: set evaluation.num_samples={most} there."
    ]


def _memory(own: str, probes: list[Json]) -> str:
    """What a model gave away of questions of which it saw the beginning."""
    exact, rouge, correct = (fmean(probe[key] for probe in probes) for key in ("exact", "rouge_l", "correct"))
    return (
        f"{own} was shown the first {100 * probes[0]['share']:g} % of each question: it wrote the rest of "
        f"{100 * exact:.1f} % word for word (ROUGE-L {rouge:.2f}), and answered {100 * correct:.1f} % right. A model "
        f"that has not seen them completes hardly any, and answers as often as a guess."
    )
