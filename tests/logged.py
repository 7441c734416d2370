"""Reads back what loggers wrote: figures by step, and how often each step has each of them."""

import json
import struct
from collections import defaultdict
from pathlib import Path

Curve = dict[tuple[int, str], list[float]]
"""By step and name, all values: more than one where a step was logged twice."""

_BLOCK, _FILE_HEADER, _PIECE_HEADER = 32768, 7, 7
_WHOLE, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


def tensorboard(root: Path) -> Curve:
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    found: Curve = defaultdict(list)
    for path in sorted((root / "tensorboard").iterdir()):
        for event in LegacyEventFileLoader(str(path)).Load():
            for value in event.summary.value:
                if value.WhichOneof("value") == "simple_value":
                    found[event.step, value.tag].append(value.simple_value)
    return dict(found)


def trackio(folder: Path, name: str) -> Curve:
    import sqlite3

    found: Curve = defaultdict(list)
    with sqlite3.connect(folder / "motif_lite.db") as base:
        for step, metrics in base.execute("select step, metrics from metrics where run_name = ?", [name]):
            for key, value in json.loads(metrics).items():
                if isinstance(value, int | float):
                    found[step, key].append(value)
    return dict(found)


def wandb(root: Path) -> Curve:
    from wandb.proto import wandb_internal_pb2

    found: Curve = defaultdict(list)
    for path in (root / "wandb").glob("offline-run-*/*.wandb"):
        for content in _pieces(path.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(content)
            items = [item for item in record.history.item if len(item.nested_key) < 2]  # less parts of tables
            row = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in items}
            for key, value in row.items():
                if isinstance(value, int | float) and not key.startswith("_"):
                    found[row["_step"], key].append(value)
    return dict(found)


def _pieces(content: bytes) -> list[bytes]:
    """The records of a file in the format of LevelDB's log, as wandb writes it."""
    place, records, open_one = _FILE_HEADER, list[bytes](), b""
    while place + _PIECE_HEADER <= len(content):
        left = _BLOCK - place % _BLOCK
        if left < _PIECE_HEADER:
            place += left
            continue
        size, kind = struct.unpack_from("<HB", content, place + 4)
        piece = content[place + _PIECE_HEADER : place + _PIECE_HEADER + size]
        place += _PIECE_HEADER + size
        open_one = piece if kind in (_WHOLE, _FIRST) else open_one + piece
        if kind in (_WHOLE, _LAST):
            records.append(open_one)
    return records
