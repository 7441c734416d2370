"""The few sizes that batches of rows are rounded up to.

Libraries keep compiled code for every shape that they have met: oneDNN about 0.6 MiB for each (measured), and never
gives it back. Replies end one by one and prompts have any length, so without rounding a run meets a new shape at almost
every step, and its memory grows for as long as it lasts.
"""

_GRANULE = 8
_PER_DOUBLING = 4


def rounded_up(rows: int) -> int:
    """The smallest size that so many rows fit into: 1, 2, 4, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, ...

    Up to 16 rows a product costs little more than reading the weights, whatever their number. Above that, four sizes
    per doubling add a tenth of the rows on average.
    """
    if rows <= 2 * _GRANULE:
        return 1 << max(rows - 1, 0).bit_length()
    granule = max(_GRANULE, (1 << (rows - 1).bit_length()) // (2 * _PER_DOUBLING))
    return -(-rows // granule) * granule
