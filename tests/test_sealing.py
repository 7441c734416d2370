"""A sealed folder: whatever happens to any byte of it is noticed."""

from pathlib import Path

import pytest

from motif_lite.runs import sealing


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    folder = tmp_path / "unfinished" / "folder"
    (folder / "inner").mkdir(parents=True)
    (folder / "weights").write_bytes(bytes(range(256)))
    (folder / "inner" / "empty").write_text("")
    place = tmp_path / "place" / "folder"
    sealing.seal(folder, place, step=7)
    return place


def test_a_folder_is_sealed_as_a_whole(sealed: Path) -> None:
    assert sealing.damage(sealed) is None
    assert sealing.step_of(sealed) == 7
    assert not list((sealed.parents[1] / "unfinished").iterdir())


def test_every_flipped_bit_of_every_file_is_noticed_the_manifest_included(sealed: Path) -> None:
    for path in (sealed / "weights", sealed / "manifest.json"):
        whole = path.read_bytes()
        for bit in range(8 * len(whole)):
            damaged = bytearray(whole)
            damaged[bit // 8] ^= 1 << bit % 8
            path.write_bytes(damaged)
            assert path.name in (sealing.damage(sealed) or ""), bit
        path.write_bytes(whole)
    assert sealing.damage(sealed) is None


@pytest.mark.parametrize("name", ["weights", "inner/empty", "manifest.json"])
def test_a_missing_file_is_named(sealed: Path, name: str) -> None:
    (sealed / name).unlink()
    assert sealing.damage(sealed) == f"{name} is missing"
    assert sealing.step_of(sealed) is None


@pytest.mark.parametrize("name", ["weights", "manifest.json"])
def test_a_truncated_file_is_named(sealed: Path, name: str) -> None:
    content = (sealed / name).read_bytes()
    for size in (0, 1, len(content) - 1):
        (sealed / name).write_bytes(content[:size])
        assert name in (sealing.damage(sealed) or "")


@pytest.mark.parametrize(
    "content", [b"[]", b"{}", b"null", b"[" * 100_000, b"\xff", b'{"step": 1, "files": [], "sha256": ""}']
)
def test_a_manifest_with_something_else_is_damage(sealed: Path, content: bytes) -> None:
    (sealed / "manifest.json").write_bytes(content)
    assert sealing.damage(sealed) == "manifest.json is damaged"


def test_a_folder_takes_the_place_of_another(sealed: Path, tmp_path: Path) -> None:
    new = tmp_path / "unfinished" / "new"
    new.mkdir()
    (new / "weights").write_text("new")
    sealing.seal(new, sealed, step=8)
    assert sealing.step_of(sealed) == 8
    assert (sealed / "weights").read_text() == "new"
