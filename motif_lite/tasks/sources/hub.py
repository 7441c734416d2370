"""Data sets of the hub that are known by name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from motif_lite.errors import DataError
from motif_lite.nouns import ReadProgress
from motif_lite.recipe.schema import SourceSection
from motif_lite.tasks.rows import Row
from motif_lite.tasks.sources.base import Request, Role, Table


@dataclass(frozen=True, slots=True)
class Dataset:
    """A data set that is known by name.

    Attributes:
        hub: Its name on the hub with the configuration.
        splits: The roles that it may play, with the name of the split for each.
        has_sums: Its solutions hold them, so that there are twins.
        sizes: Problems for each role, where that is known without a download.
    """

    hub: tuple[str, str]
    splits: Mapping[Role, str]
    has_sums: bool = False
    sizes: Mapping[Role, int] | None = None


DATASETS: dict[str, Dataset] = {
    "gsm8k": Dataset(
        ("openai/gsm8k", "main"),
        {"train": "train", "validation": "train", "test": "test"},
        has_sums=True,
        sizes={"train": 7473, "validation": 7473, "test": 1319},
    ),
    "math500": Dataset(("HuggingFaceH4/MATH-500", "default"), {"test": "test"}, sizes={"test": 500}),
    "aime24": Dataset(("HuggingFaceH4/aime_2024", "default"), {"test": "train"}, sizes={"test": 30}),
}


class HubDatasets:
    """Downloaded by the `datasets` library, once."""

    def takes(self, name: str) -> bool:
        """Whether it is in the table."""
        return name in DATASETS

    def names(self) -> list[str]:
        """All of the table."""
        return list(DATASETS)

    def check(self, request: Request) -> None:
        """Whether it may play this role.

        Raises:
            DataError: It may not, or lacks what is asked for.
        """
        known = DATASETS[request.name]
        if request.source.twins and not known.has_sums:
            raise DataError(f"{request.name}: its problems have no twins; leave out twins, or take gsm8k")
        if request.role not in known.splits:
            raise DataError(
                f"{request.name}: is for the final evaluation only; for training and validation use gsm8k, "
                f"chain_sum or a file of your own"
            )

    def expected(self, source: SourceSection, role: Role) -> int | None:
        """As the table says, or fewer where fewer are asked for."""
        size = (DATASETS[source.source].sizes or {}).get(role)
        return min((number for number in (source.num_problems, size) if number is not None), default=None)

    def rows(self, request: Request) -> Table:
        """Its rows.

        Raises:
            DataError: It cannot be downloaded.
        """
        rows = _downloaded(DATASETS[request.name], request.role)
        return Table(request.name, iter(rows), len(rows))

    def progress_reader(self, name: str) -> ReadProgress | None:
        """None."""
        return None


def _downloaded(dataset: Dataset, role: Role) -> Sequence[Row]:
    import datasets

    name, configuration = dataset.hub
    datasets.disable_progress_bars()
    try:
        return datasets.load_dataset(name, configuration, split=dataset.splits[role])  # type: ignore[no-any-return]
    except Exception as error:  # the library raises a dozen kinds for a network that is not there
        raise DataError(
            f"{name}: cannot be downloaded ({type(error).__name__}: {str(error).partition(chr(10))[0][:200]}); "
            f"check the connection, or give a file of it as the source"
        ) from None
