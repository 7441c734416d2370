"""Figures as text: the one way to write an accuracy, or a gain, with its interval."""

from collections.abc import Sequence


def in_percent(value: float, bounds: Sequence[float] | None, *, digits: int = 1, sign: str = "", unit: str = "") -> str:
    """A share or a difference of two with its interval, such as ``43.2 % [38.0, 48.5]``.

    Args:
        value: As a fraction, like its bounds; without bounds it stands alone.
        sign: ``+`` to write the sign of what is positive, too.
        unit: What follows the value.
    """
    mean, *ends = (f"{100 * number:{sign}.{digits}f}" for number in (value, *(bounds or ())))
    return f"{mean}{unit} [{', '.join(ends)}]" if ends else f"{mean}{unit}"
