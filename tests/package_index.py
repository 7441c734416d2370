"""Small package indexes in folders, with wheels that hold next to nothing: what pip installs from in tests."""

from pathlib import Path
from zipfile import ZipFile


def wheel(
    folder: Path, name: str, version: str, *, origin: str = "", files: tuple[str, ...] = (), needs: str = ""
) -> Path:
    """Write a wheel.

    Args:
        origin: Text of the module ``name``, to tell where it came from.
        files: Further empty files.
        needs: Another package that it requires.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    about = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n" + (
        f"Requires-Dist: {needs}\n" if needs else ""
    )
    info = f"{name}-{version}.dist-info"
    with ZipFile(path, "w") as archive:
        archive.writestr(f"{name}/__init__.py", f"origin = {origin!r}\n")
        for file in files:
            archive.writestr(file, "")
        archive.writestr(f"{info}/METADATA", about)
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


def write_index(folder: Path) -> str:
    """Lay a folder of wheels out as an index and return its URL."""
    for path in list(folder.glob("*.whl")):
        package = folder / path.name.partition("-")[0].replace("_", "-")
        package.mkdir(exist_ok=True)
        path.rename(package / path.name)
    for package in folder.iterdir():
        links = "".join(
            f'<a href="{path.name.replace("+", "%2B")}">{path.name}</a>\n' for path in package.glob("*.whl")
        )
        (package / "index.html").write_text(f"<!DOCTYPE html><html><body>\n{links}</body></html>\n")
    return folder.as_uri()
