"""Rows of tokens as a tree of what they have in common at their beginning.

The openings of a problem share their prompt, the futures of an opening theirs, and all rounds of a problem the system
prompt and the question. Each token of the tree stands for all rows that go through it: a causal model's state at a
token depends on the tokens before it alone, so one computation serves them all, and its gradient is the sum of theirs.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

WORTH_SHARING = 16
"""Tokens: rows that begin alike for fewer than that are not joined; each joint is one more call of attention."""

Row = Sequence[int]


@dataclass(frozen=True, slots=True)
class Family:
    """Segments that follow the same tokens.

    Attributes:
        path: Places of the tokens before them, from the beginning of their rows.
        segments: First place of each, and the place after its last; one behind the other.
    """

    path: list[int]
    segments: list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class PrefixTree:
    """Rows without what they repeat of each other.

    Attributes:
        ids: A token for each place.
        positions: Of each token in its rows.
        families: All segments; those of one family, and the families, one behind the other.
        places: Of each row's tokens.
    """

    ids: list[int]
    positions: list[int]
    families: list[Family]
    places: list[list[int]]


def tree_of(rows: Sequence[Row]) -> PrefixTree:
    """The tree of rows that have one token at least."""
    tree = PrefixTree([], [], [], [[] for _ in rows])
    waiting: list[tuple[list[int], list[int]]] = [(in_order(rows), [])]
    while waiting:
        waiting += _branch(tree, rows, *waiting.pop())
    return tree


def _branch(
    tree: PrefixTree, rows: Sequence[Row], members: list[int], path: list[int]
) -> Iterator[tuple[list[int], list[int]]]:
    """Add the segments that follow a path; yields the rows that share one, with the path to its end."""
    depth, family = len(path), Family(path, [])
    for cluster in _clusters(rows, members, depth):
        first, last = rows[cluster[0]], rows[cluster[-1]]
        start, end = len(tree.ids), common(first, last)
        tree.ids.extend(first[depth:end])
        tree.positions.extend(range(depth, end))
        own = [*path, *range(start, len(tree.ids))]
        if end > depth:
            family.segments.append((start, len(tree.ids)))
        for row in cluster:
            if len(rows[row]) == end:
                tree.places[row][:] = own
        longer = [row for row in cluster if len(rows[row]) > end]
        if longer:
            yield longer, own
    if family.segments:
        tree.families.append(family)


def _clusters(rows: Sequence[Row], members: list[int], depth: int) -> Iterator[list[int]]:
    """Rows in order that go on alike for long enough, each of the others by itself."""

    def key(row: int) -> tuple[int, ...]:
        ahead = tuple(rows[row][depth : depth + WORTH_SHARING])
        return ahead if len(ahead) == WORTH_SHARING else (-1, row)

    for _, cluster in groupby(members, key):
        yield list(cluster)


def in_order(rows: Sequence[Row]) -> list[int]:
    """Places of the rows such that those that begin alike are next to each other."""
    return sorted(range(len(rows)), key=lambda row: tuple(rows[row]))


def common(one: Row, other: Row) -> int:
    """Tokens that two rows have in common at their beginning."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))


def pieces(rows: Sequence[Row], most_tokens: int, most_rows: int | None = None) -> list[list[int]]:
    """Split rows into trees of at most so many tokens, as few as follow from taking the rows in order.

    Args:
        most_tokens: Of a tree; a single row may be longer.
        most_rows: Of a tree; None: any number.

    Returns:
        Places of each piece's rows; each row is in one of them.
    """
    found: list[list[int]] = []
    room = 0
    for row in in_order(rows):
        new = len(rows[row])
        if found:  # up to a joint a few shared tokens may be repeated
            new -= max(0, common(rows[found[-1][-1]], rows[row]) - WORTH_SHARING + 1)
        if not found or new > room or (most_rows is not None and len(found[-1]) == most_rows):
            found.append([])
            room, new = most_tokens, len(rows[row])
        found[-1].append(row)
        room -= new
    return found
