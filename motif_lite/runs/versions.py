"""Records from the files of this version of the format and of version 1, which commit f60840b and earlier ones wrote.

A line of version 1 has the keys of one of version 2, and names no version. evaluation.json was nested, by benchmark,
time, strategy and decoding; the settings of its measurements were a table of their own.
"""

from collections.abc import Iterator
from typing import Any, TypeVar

from pydantic import ValidationError

from motif_lite.errors import RunError
from motif_lite.runs.records import VERSION, Comparison, Evaluation, Measurement, PartsHeader, Record, Versioned

Stored = TypeVar("Stored", bound=Versioned)

Json = dict[str, Any]
"""An object of a file, before it is checked."""


def parsed(kind: type[Stored], content: object, where: str, remedy: str) -> Stored:
    """A record, of what JSON has.

    Args:
        where: The file, and where it has lines the line.
        remedy: What to do if it is damaged.

    Raises:
        RunError: It is damaged, or of a later version.
    """
    version = content.get("version", 1) if isinstance(content, dict) else None
    if isinstance(version, int) and version > VERSION:
        raise RunError(
            f"{where} has version {version} of the format, and this motif_lite reads versions 1 to {VERSION}; go on "
            f"with the version of motif_lite that wrote it, or a later one"
        )
    try:
        if version == 1 and isinstance(content, dict):
            content = _upgraded(kind, content)
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise RunError(f"{where} is damaged ({place + ': ' if place else ''}{first['msg']}); {remedy}") from None


def _upgraded(kind: type[Versioned], old: Json) -> Json:
    if kind is Evaluation:
        return _evaluation(old)
    if kind is PartsHeader:
        settings = {key: value for key, value in old.items() if key != "width"}
        return {"settings": _settings(settings), "width": old.get("width")}
    return _known(kind, old)


def _evaluation(old: Json) -> Json:
    if not isinstance(old.get("benchmarks"), dict):
        return {"measurements": None}  # which is refused
    settings = _table(old, "settings")
    measurements = [
        dict(zip(("benchmark", "when", "strategy", "decoding"), keys, strict=True))
        | _known(Measurement, found)
        | {"settings": _settings(settings.get(".".join(keys)))}
        for keys, found in _leaves(old["benchmarks"], 4)
    ]
    comparisons = [
        dict(zip(("benchmark", "strategy", "decoding"), keys, strict=True)) | _known(Comparison, found)
        for keys, found in _leaves(_table(old, "comparisons"), 3)
    ]
    return {"measurements": measurements, "comparisons": comparisons}


def _settings(old: Json | None) -> Json | None:
    """What was null is left out now."""
    if not isinstance(old, dict):
        return old
    return old | {"source": {key: value for key, value in _table(old, "source").items() if value is not None}}


def _known(kind: type[Record], old: Json) -> Json:
    return {key: value for key, value in old.items() if key in kind.model_fields}


def _table(old: Json, key: str) -> Json:
    found = old.get(key, {})
    return found if isinstance(found, dict) else {}


def _leaves(tree: object, depth: int) -> Iterator[tuple[tuple[str, ...], Json]]:
    """What lies so deep in nested tables, with the keys that lead there; nothing where there is no table."""
    if not isinstance(tree, dict):
        yield ("",) * depth, {}
        return
    for key, branch in tree.items():
        if depth == 1:
            yield (key,), branch if isinstance(branch, dict) else {}
        else:
            yield from (((key, *rest), leaf) for rest, leaf in _leaves(branch, depth - 1))
