"""An accuracy or a gain with its interval, wherever it is shown."""

import pytest

from motif_lite.figures import in_percent


@pytest.mark.parametrize(
    ("value", "bounds", "how", "text"),
    [
        (0.432, (0.38, 0.485), {"unit": " %"}, "43.2 % [38.0, 48.5]"),
        (0.5, (0.4, 0.6), {"digits": 0}, "50 [40, 60]"),
        (0.05, (-0.012, 0.112), {"sign": "+"}, "+5.0 [-1.2, +11.2]"),
        (-0.05, None, {"sign": "+"}, "-5.0"),
        (0.2, [0.175, 0.225], {"unit": " points"}, "20.0 points [17.5, 22.5]"),
    ],
)
def test_a_figure_is_written_with_its_interval(
    value: float, bounds: tuple[float, float] | None, how: dict[str, str], text: str
) -> None:
    assert in_percent(value, bounds, **how) == text  # type: ignore[arg-type]
