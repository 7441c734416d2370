"""What was found about an export, in words."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from motif_lite.exporting.formats import FORMATS
from motif_lite.exporting.records import ExportRecord, Runtime
from motif_lite.views.formats import excerpt

_TEXT_WIDTH = 100


def lines(found: ExportRecord, to: Path) -> Iterator[str]:
    """Differences with their bounds, what llama.cpp wrote, and the next step."""
    difference, stored = found.difference, f", {found.number}" if found.number else ""
    yield f"exported    {to}: {found.format}{stored}, base {found.base}"
    yield (
        f"difference  of log-probabilities: mean {difference.mean:.3g} (bound {found.mean_bound:g}), largest "
        f"{difference.largest:.3g} (bound {found.largest_bound:g}); {difference.tokens} tokens of {difference.replies} "
        f"of the run's replies"
    )
    if difference.lost is None:
        yield "adapter     changes nothing in these replies: whether the export has it cannot be told"
    elif difference.can_tell:
        yield (
            f"adapter     changes {difference.effect:.3g} on average; of that the export {_share(difference.lost)} "
            f"(standard error {100 * (difference.lost_error or 0):.1f})"
        )
    else:
        yield (
            f"adapter     changes {difference.effect:.3g} on average, less than rounding: whether the export has it "
            f"cannot be told from these replies; --quantisation f32 is exact"
        )
    if found.runtime is not None:
        yield from _runtime(found.runtime)
    yield f"next        {FORMATS[found.format].next_step(to)}"


def pushed_lines(name: str, files: Mapping[str, int], url: str | None) -> Iterator[str]:
    """What was pushed, or would be.

    Args:
        files: Bytes by name.
        url: None where nothing was pushed.
    """
    word = "pushed to" if url is not None else "would push to"
    yield f"{word:<11} {url or name}: {len(files)} files, {sum(files.values()):,} bytes"
    for file, size in files.items():
        yield f"            {file}  {size:,}"


def _share(lost: float) -> str:
    """How much of the adapter's effect an export has; rounding may also add to it."""
    lacks = round(100 * lost, 1)
    return f"lacks {lacks:.1f} %" if lacks > 0 else f"lacks nothing: it has {100 - lacks:.1f} %"


def _runtime(found: Runtime) -> Iterator[str]:
    yield (
        f"llama.cpp   {found.name}: the first {found.same_tokens} of {found.tokens} greedy tokens are the same, with "
        f"log-probabilities within {found.largest:.3g}"
    )
    yield f"wrote       {excerpt(found.text, 1, _TEXT_WIDTH).plain}"
