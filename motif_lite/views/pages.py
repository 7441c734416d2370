"""Pages from the templates of this folder; everything that they are given is escaped."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, Template

from motif_lite.figures import in_percent
from motif_lite.runs.records import Measurement
from motif_lite.views.formats import gib, printable


def template(name: str) -> Template:
    """A template: what a model wrote is text in it, whatever it looks like."""
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True)
    environment.filters |= {"gib": gib, "accuracy": _accuracy, "printable": printable}
    return environment.get_template(name)


def _accuracy(found: Measurement) -> tuple[str, str]:
    """An accuracy, and its interval."""
    shown, _, interval = in_percent(found.accuracy, found.interval, unit=" %").partition(" [")
    return shown, f"[{interval}"
