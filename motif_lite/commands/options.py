"""Options that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

RecipeFile = Annotated[
    Path | None, typer.Option("--recipe", metavar="FILE", help="The recipe, e.g. recipes/tiny_cpu.toml.")
]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the recipe; VALUE is TOML. Repeatable."),
]
Adapter = Annotated[
    str | None,
    typer.Option("--adapter", metavar="DIR", help="An adapter: a folder, e.g. runs/NAME/adapter, or a hub name."),
]
