"""The page: our markup, styles and scripts with KaTeX's, and either all groups of a run or none.

Only these scripts run: the content policy names them by their hashes, and a reply is never markup. Groups are deflated
and encoded in base64 in blocks of data, which the browser decodes one at a time when it shows them.
"""

import base64
import hashlib
import html
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path

from motif_lite.errors import RunError
from motif_lite.recipe.schema import Recipe
from motif_lite.runs.directory import RunDirectory
from motif_lite.runs.files import write_whole
from motif_lite.runs.rollouts import RolloutsReader
from motif_lite.views.explorer.entries import Entry, entry, entry_json, group_json
from motif_lite.views.formats import printable

PAGE = "rollouts.html"
"""Its name in a run directory."""

_ASSETS = Path(__file__).parent / "assets"
_SCRIPTS = ("katex/katex.min.js", "text.js", "tree.js", "list.js", "explorer.js")

Progress = Callable[[int, int], None]


def write(recipe: Recipe, run: RunDirectory, file: Path, on_progress: Progress = lambda done, total: None) -> None:
    """Write a page that holds every rollout of a run, whole or not at all.

    Args:
        on_progress: Called with bytes of rollouts.jsonl read, and all of them.

    Raises:
        RunError: A line is damaged, or the page cannot be written.
    """
    reader = RolloutsReader(run.root / "rollouts.jsonl", recipe.rollout.num_openings)
    entries, blocks = list[Entry](), list[str]()
    for groups in (reader.new_groups(on_progress), reader.last_group()):
        for group in groups:
            entries.append(entry(recipe, group))
            blocks.append(_deflated(group_json(recipe, group)))
    try:
        write_whole(file, _with_groups(run.root.name, entries, blocks))
    except OSError as error:
        raise RunError(f"{file}: cannot be written ({error.strerror}); choose a file in an existing folder") from None


def served(name: str) -> str:
    """The page without any group; it asks the server that it came from.

    Args:
        name: Of the run.
    """
    return _document(name, "connect-src 'self'; ", _block("state", json.dumps({"served": True, "rows": []})))


def _with_groups(name: str, entries: Iterable[Entry], blocks: Iterable[str]) -> Iterator[str]:
    """Parts of the page: the list first, so that the browser can show it while it still reads groups."""
    rows = ",".join(map(entry_json, entries))
    yield _document(name, "", _block("state", f'{{"served":false,"rows":[{rows}]}}'))
    for index, block in enumerate(blocks):
        yield f'<script type="application/octet-stream" id="g{index}">{block}</script>\n'


def _deflated(text: str) -> str:
    packer = zlib.compressobj(level=6, wbits=-zlib.MAX_WBITS)
    return base64.b64encode(packer.compress(text.encode("ascii")) + packer.flush()).decode("ascii")


def _block(name: str, content: str) -> str:
    """JSON as data of the page: no text in it can end the block."""
    safe = content.replace("<", "\\u003c").replace(">", "\\u003e")
    return f'<script type="application/json" id="{name}">{safe}</script>'


def _document(name: str, connect: str, state: str) -> str:
    style, scripts = _style(), [_asset(script) for script in _SCRIPTS]
    policy = (
        f"default-src 'none'; script-src {' '.join(map(_source, scripts))}; style-src {_source(style)}; "
        f"font-src data:; {connect}base-uri 'none'; form-action 'none'"
    )
    title = html.escape(printable(name))
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Rollouts of {title}</title>\n<style>{style}</style></head>\n"
        f"<body>\n{_asset('body.html').replace('RUN_NAME', title)}\n{state}\n"
        + "\n".join(f"<script>{script}</script>" for script in scripts)
        + "\n"
    )


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@cache
def _asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")


@cache
def _style() -> str:
    """KaTeX's styles with its fonts inside, as woff2 alone, which all browsers read; then ours."""
    katex = re.sub(
        r"url\((fonts/[\w-]+\.woff2)\) format\(\"woff2\"\)(?:,url\([^)]*\) format\(\"\w+\"\))*",
        lambda found: f'url(data:font/woff2;base64,{_font(found[1])}) format("woff2")',
        _asset("katex/katex.min.css"),
    )
    return katex + _asset("explorer.css")


def _font(name: str) -> str:
    return base64.b64encode((_ASSETS / "katex" / name).read_bytes()).decode()
