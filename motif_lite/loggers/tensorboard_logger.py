"""TensorBoard: event files in the run directory, ``tensorboard --logdir runs``."""

import shutil
from collections.abc import Sequence

from torch.utils.tensorboard import SummaryWriter

from motif_lite.loggers.base import Figures, LoggedRun, Sample


class TensorBoardLogger:
    """Implements `base.Logger`: a folder of event files that begins with nothing."""

    def __init__(self, run: LoggedRun) -> None:
        folder = run.root / "tensorboard"
        shutil.rmtree(folder, ignore_errors=True)
        self._writer = SummaryWriter(str(folder))

    def log(self, step: int, figures: Figures) -> None:
        """Scalars, which TensorBoard keeps in 32 bits."""
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def samples(self, step: int, rows: Sequence[Sample]) -> None:
        """A Markdown table whose texts are code: nothing in them is interpreted."""
        lines = ["|".join(Sample._fields), "|".join("---" for _ in Sample._fields)]
        lines += ["|".join(_cell(value) for value in row) for row in rows]
        self._writer.add_text("samples", "\n".join(f"|{line}|" for line in lines), step)

    def close(self) -> None:
        """Close the file."""
        self._writer.close()


def _cell(value: object) -> str:
    """A value in a cell: without what would end the cell, the row or the code."""
    text = " ".join(f"{value:.3f}" if isinstance(value, float) else str(value).split())
    return "`{}`".format(text.replace("`", "'").replace("|", "\N{BROKEN BAR}")) if text else ""
