"""Many requests at once, with reports meanwhile."""

import asyncio
from collections.abc import Awaitable, Callable

_SECONDS_BETWEEN_REPORTS = 0.2
"""A stop is asked for in these calls, so they come whether or not a reply has."""


async def all_done(ask: Callable[[int], Awaitable[None]], count: int, limit: int, report: Callable[[], None]) -> None:
    """Ask so many times, at most ``limit`` at once; what ``ask`` or ``report`` raises ends the others.

    Args:
        ask: Given its number.
        report: Called several times a second, and after each of them.
    """
    slots = asyncio.Semaphore(limit)

    async def in_turn(index: int) -> None:
        async with slots:
            await ask(index)

    tasks = [asyncio.create_task(in_turn(index)) for index in range(count)]
    try:
        pending = set(tasks)
        while pending:
            done, pending = await asyncio.wait(
                pending, timeout=_SECONDS_BETWEEN_REPORTS, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                task.result()
            report()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
