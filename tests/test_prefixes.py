"""Which prompts begin from which rows."""

import random

from motif_lite.policies.engine.prefix_sharing import WORTH_COPYING, Placement, Prefixes, in_order
from motif_lite.policies.engine.sampler import Request

LONG = list(range(100, 100 + 3 * WORTH_COPYING))


def requests(*prompts: list[int]) -> list[Request]:
    return [Request(index, ids, seed=0) for index, ids in enumerate(prompts)]


def summary(placements: list[Placement]) -> list[tuple[int, int, int, int, int]]:
    """(row, source, shared tokens, unread tokens, wave) of each."""
    return [(each.row, each.source, each.shared, len(each.unread), each.wave) for each in placements]


def test_replies_to_the_same_prompt_take_it_from_the_first() -> None:
    size = len(LONG) - 1  # the last token is for the first step
    placed = Prefixes(3, len(LONG)).place(requests(LONG, LONG, LONG), [0, 1, 2])
    assert summary(placed) == [(0, 0, 0, size, 0), (1, 0, size, 0, 1), (2, 0, size, 0, 1)]


def test_what_is_common_comes_from_a_row_that_is_ready_early() -> None:
    """B and C have one token more in common than either has with A; that is not worth a third wave."""
    a, b, c = [*LONG, 1, 1, 1], [*LONG, 2, 2, 2], [*LONG, 2, 3, 3]
    placed = Prefixes(3, len(a)).place(requests(a, b, c), [0, 1, 2])
    assert [(each.source, each.shared, each.wave) for each in placed] == [
        (0, 0, 0), (0, len(LONG), 1), (0, len(LONG), 1),
    ]  # fmt: skip


def test_much_more_in_common_is_worth_a_wave() -> None:
    question = LONG + [7] * 2 * WORTH_COPYING
    a, b, c = LONG + [1] * 40, [*question, 2, 2], [*question, 3, 3]
    placed = Prefixes(3, 100).place(requests(a, b, c), [0, 1, 2])
    assert [(each.source, each.shared, each.wave) for each in placed] == [
        (0, 0, 0), (0, len(LONG), 1), (1, len(question), 2),
    ]  # fmt: skip


def test_a_few_tokens_in_common_are_read_again() -> None:
    a, b = LONG[: WORTH_COPYING - 1] + [1] * 20, LONG[: WORTH_COPYING - 1] + [2] * 20
    placed = Prefixes(2, 100).place(requests(a, b), [0, 1])
    assert [(each.shared, each.wave) for each in placed] == [(0, 0), (0, 0)]


def test_a_row_whose_sequence_has_ended_is_begun_from_in_place() -> None:
    prefixes = Prefixes(3, 100)
    prefixes.place(requests([1] * 30, LONG, [2] * 30), [0, 1, 2])
    placed = prefixes.place(requests(LONG, LONG), [0, 1, 2])
    assert summary(placed) == [(1, 1, len(LONG) - 1, 0, 0), (0, 1, len(LONG) - 1, 0, 1)]


def test_prompts_of_one_token_have_nothing_to_read() -> None:
    assert summary(Prefixes(2, 1).place(requests([5], [5]), [0, 1])) == [(0, 0, 0, 0, 0), (1, 1, 0, 0, 0)]


def test_the_same_prompts_are_brought_together_in_the_order_in_which_they_come() -> None:
    assert [each.index for each in in_order(requests([1], [2], [1], [3], [2]))] == [0, 2, 1, 4, 3]


def test_every_prompt_is_read_once_and_copied_only_from_what_is_ready() -> None:
    """Random groups through few rows, against a simulated cache."""
    rng = random.Random(1)
    for _ in range(60):
        groups = [[rng.randrange(9) for _ in range(rng.randrange(1, 60))] for _ in range(3)]
        prompts = [
            group + [rng.randrange(9) for _ in range(rng.randrange(1, 30))] for group in groups for _ in range(3)
        ]
        waiting = in_order(requests(*[rng.choice(prompts) for _ in range(30)]))
        num_rows = rng.randrange(1, 8)
        prefixes, cache, busy = Prefixes(num_rows, 100), dict[int, list[int]](), set[int]()
        read_whole: list[tuple[int, ...]] = []
        while waiting:
            busy -= set(rng.sample(sorted(busy), rng.randrange(len(busy) + 1)))
            free = [row for row in range(num_rows) if row not in busy]
            admitted, waiting = waiting[: len(free)], waiting[len(free) :]
            placements = prefixes.place(admitted, free)
            assert len({each.row for each in placements}) == len(placements)
            assert {each.row for each in placements} <= set(free)
            for wave in range(10):
                written = {}
                for each in (each for each in placements if each.wave == wave):
                    prompt = each.request.ids[:-1]
                    assert not each.shared or cache[each.source][: each.shared] == prompt[: each.shared]
                    written[each.row] = prompt
                    if each.unread and tuple(each.request.ids) in read_whole:
                        raise AssertionError("read twice")
                    if each.unread:
                        read_whole.append(tuple(each.request.ids))
                cache |= written
            busy |= {each.row for each in placements}
