"""The audit of a run on the terminal: each measurement by our rule, by the reference's, and by a vote."""

from rich import box
from rich.console import Console
from rich.table import Table

from motif_lite.evaluation.audit import Audit, Count
from motif_lite.figures import in_percent
from motif_lite.recipe.schema import Recipe
from motif_lite.views.formats import confidence_in_words, print_text


def print_audit(console: Console, recipe: Recipe, audit: Audit) -> None:
    """A table per benchmark; nothing where there are no counts."""
    for benchmark in dict.fromkeys(count.benchmark for count in audit.counts):
        console.print(_table(recipe, [count for count in audit.counts if count.benchmark == benchmark], benchmark))
    if audit.counts:
        print_text(
            console, "reference: \\boxed{gold} (AIME: its digits) anywhere in the final reply, as the paper counts"
        )
        print_text(console, "maj@K: the most common answer of K samples; = one with the tokens of a multi-round answer")


def _table(recipe: Recipe, counts: list[Count], benchmark: str) -> Table:
    title = f"{benchmark}: audit, accuracy in percent with {confidence_in_words(recipe)} intervals"
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=0)
    table.add_column("thinking", no_wrap=True)
    for column in ("when", "ours", "reference", "majority", "tokens"):
        table.add_column(column, justify="right", no_wrap=True)
    for count in counts:
        if count.rule != "ours":
            continue
        same = [c for c in counts if (c.strategy, c.decoding, c.when) == (count.strategy, count.decoding, count.when)]
        by_reference = next((_cell(each) for each in same if each.rule == "reference"), "-")
        label = f"{count.strategy.removesuffix('_round')}, {count.decoding}"
        table.add_row(label, count.when, _cell(count), by_reference, "-", f"{count.tokens:,.0f}")
        for vote in (each for each in same if each.rule.startswith("maj@")):
            name = f"  {vote.rule}{' =' if vote.is_equal_tokens else ''}"
            table.add_row(name, vote.when, "", "", _cell(vote), f"{vote.tokens:,.0f}")
    return table


def _cell(count: Count) -> str:
    return in_percent(count.accuracy, count.interval)
