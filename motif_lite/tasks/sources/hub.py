"""Data sets of the hub that are known by name."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from motif_lite.errors import DataError
from motif_lite.grading import countdown, rule_golds
from motif_lite.nouns import ReadProgress
from motif_lite.recipe.data import SourceSection
from motif_lite.tasks.rows import Row
from motif_lite.tasks.sources.base import Request, Role, Table

AsRow = Callable[[Row], Row]
"""Gives a row the columns `question` and `answer`; one that lacks what it should have stays as it is."""


def _named(question: str, answer: str) -> AsRow:
    """From columns of these names."""

    def as_row(row: Row) -> Row:
        return {"question": row[question], "answer": row[answer]} if {question, answer} <= row.keys() else row

    return as_row


def _countdown(row: Row) -> Row:
    """Numbers and a target, for which many expressions may be right."""
    if not {"nums", "target"} <= row.keys():
        return row
    numbers, target = list(row["nums"]), row["target"]
    answer = rule_golds.written("countdown", {"numbers": numbers, "target": target})
    return {"question": countdown.question(numbers, target), "answer": answer}


@dataclass(frozen=True, slots=True)
class Dataset:
    """A data set that is known by name.

    Attributes:
        hub: Its name on the hub with the configuration.
        splits: The roles that it may play, with the name of the split for each.
        as_row: What its rows are read by.
        has_sums: Its solutions hold them, so that there are twins.
        sizes: Problems for each role, where that is known without a download.
    """

    hub: tuple[str, str]
    splits: Mapping[Role, str]
    as_row: AsRow = dict
    has_sums: bool = False
    sizes: Mapping[Role, int] = field(default_factory=dict)


_TRAIN: dict[Role, str] = {"train": "train", "validation": "train"}


def _both(number: int) -> dict[Role, int]:
    """The size of a split that is trained and validated on."""
    return {"train": number, "validation": number}


DATASETS: dict[str, Dataset] = {
    "gsm8k": Dataset(
        ("openai/gsm8k", "main"), _TRAIN | {"test": "test"}, has_sums=True, sizes=_both(7473) | {"test": 1319}
    ),
    # The training half of MATH; MATH-500 is from the other. Columns as verl's examples/data_preprocess reads them.
    "math": Dataset(
        ("DigitalLearningGmbH/MATH-lighteval", "default"), _TRAIN, _named("problem", "solution"), sizes=_both(7500)
    ),
    # DAPO's problems without their hundredfold repetition, the English ones; columns and size as rLLM reads them and as
    # the data set's card says.
    "dapo17k": Dataset(
        ("open-r1/DAPO-Math-17k-Processed", "en"), _TRAIN, _named("prompt", "solution"), sizes=_both(14116)
    ),
    # Columns as rLLM reads them; its solutions are often empty, its answers never.
    "deepscaler": Dataset(
        ("agentica-org/DeepScaleR-Preview-Dataset", "default"), _TRAIN, _named("problem", "answer"), sizes=_both(40315)
    ),
    # Columns and split as TinyZero's examples/data_preprocess/countdown.py has them.
    "countdown": Dataset(
        ("Jiayi-Pan/Countdown-Tasks-3to4", "default"),
        {"train": "train[:327680]", "validation": "train[:327680]", "test": "train[327680:328704]"},
        _countdown,
        sizes=_both(327_680) | {"test": 1024},
    ),
    "math500": Dataset(("HuggingFaceH4/MATH-500", "default"), {"test": "test"}, sizes={"test": 500}),
    "aime24": Dataset(("HuggingFaceH4/aime_2024", "default"), {"test": "train"}, sizes={"test": 30}),
    # Split and columns as its card has them.
    "aime25": Dataset(("math-ai/aime25", "default"), {"test": "test"}, _named("problem", "answer"), sizes={"test": 30}),
    # Harvard-MIT Mathematics Tournament, February 2025; columns as NeMo-Skills reads them.
    "hmmt25": Dataset(
        ("MathArena/hmmt_feb_2025", "default"), {"test": "train"}, _named("problem", "answer"), sizes={"test": 30}
    ),
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
            other = [name for name, dataset in DATASETS.items() if request.role in dataset.splits]
            what = "trained on only" if "test" not in known.splits else "for the final evaluation only"
            raise DataError(f"{request.name}: is {what}; here take {', '.join(other)}, chain_sum or a file of your own")

    def expected(self, source: SourceSection, role: Role) -> int | None:
        """As the table says, or fewer where fewer are asked for."""
        size = DATASETS[source.source].sizes.get(role)
        return min((number for number in (source.num_problems, size) if number is not None), default=None)

    def rows(self, request: Request) -> Table:
        """Its rows.

        Raises:
            DataError: It cannot be downloaded.
        """
        dataset, named = DATASETS[request.name], request.source
        rows = _downloaded(dataset, request.role)
        as_row = dict if named.question_column or named.answer_column else dataset.as_row
        return Table(request.name, map(as_row, rows), len(rows), are_the_users=False)

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
