"""Export and import: the same bytes, and nothing of what was cut off or changed."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from holdfast import Counter, Queue, Runtime
from holdfast.storage.check import check
from holdfast.storage.environment import Environment
from holdfast.storage.errors import Damaged, FolderRefused, FormatRefused, StorageError
from holdfast.storage.export import export_to, import_lines


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with counters and messages."""

    async def fill() -> None:
        async with Runtime(tmp_path / "data") as runtime:
            for key in range(50):
                await runtime.get(Counter, key).increment(key)
            for number in range(20):
                await runtime.get(Queue, "q").send({"number": number, "blob": b"\x00\xff" * 200})

    asyncio.run(fill())
    return tmp_path / "data"


def lines_of(folder: Path) -> list[bytes]:
    environment = Environment(folder, read_only=True)
    try:
        lines: list[bytes] = []
        assert export_to(lines.append, environment) == len(lines) - 2  # all but the first and the last
        return lines
    finally:
        environment.close()


def stored(folder: Path) -> list[tuple[bytes, bytes]]:
    environment = Environment(folder, read_only=True)
    try:
        with environment.lmdb.begin() as txn:
            return [(bytes(key), bytes(value)) for key, value in txn.cursor()]
    finally:
        environment.close()


def test_an_import_has_the_bytes_of_its_export(folder: Path, tmp_path: Path) -> None:
    """Key for key and byte for byte, also of the files; it is sound and opens as any other."""
    lines = lines_of(folder)
    assert import_lines(lines, tmp_path / "new") == len(lines) - 2
    assert stored(tmp_path / "new") == stored(folder)
    assert lines_of(tmp_path / "new") == lines
    assert check(tmp_path / "new") == []

    async def look() -> None:
        async with Runtime(tmp_path / "new") as runtime:
            assert await runtime.get(Counter, 7).get() == 7
            assert (await runtime.get(Queue, "q").stats()).depth == 20

    asyncio.run(look())


def test_lines_tell_kind_key_and_value(folder: Path) -> None:
    """What a person sees: the first and the last line, and rows with their kind."""
    lines = [json.loads(line) for line in lines_of(folder)]
    assert lines[0] == {"holdfast_export": 1, "format": 1}
    assert lines[-1]["rows"] == len(lines) - 2
    assert {"META", "TYPE", "DIRECTORY", "FIELDS"} <= {line["kind"] for line in lines[1:-1]}
    assert [bytes.fromhex(line["key"]) for line in lines[1:-1]] == [key for key, _ in stored(folder)]


def test_it_is_told_how_far_it_is(folder: Path, tmp_path: Path) -> None:
    """Only now and then, so few rows tell nothing; the total is that of the snapshot."""
    told: list[tuple[int, int | None]] = []

    async def many() -> None:
        async with Runtime(folder) as runtime:
            for number in range(1_200):
                await runtime.get(Queue, "many").send(number)

    asyncio.run(many())
    environment = Environment(folder, read_only=True)
    try:
        rows = export_to(lambda line: None, environment, lambda done, total: told.append((done, total)))
    finally:
        environment.close()
    assert told
    assert told[0] == (1_000, rows)


def test_a_used_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    """Nothing is overwritten; an empty folder is taken."""
    lines = lines_of(folder)
    (tmp_path / "empty").mkdir()
    import_lines(lines, tmp_path / "empty")
    (tmp_path / "file").touch()
    for used in (folder, tmp_path / "empty", tmp_path / "file"):
        with pytest.raises(FolderRefused, match="nothing is overwritten"):
            import_lines(lines, used)


def changed_value(line: bytes) -> bytes:
    row = json.loads(line)
    return json.dumps({**row, "value": base64.b64encode(b"other").decode()}).encode() + b"\n"


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (lambda lines: lines[:-1], "without its last line"),
        (lambda lines: [], "without its last line"),
        (lambda lines: [*lines[:5], *lines[6:]], "tells of .* rows"),
        (lambda lines: [*lines[:5], changed_value(lines[5]), *lines[6:]], "its checksum"),
        (
            lambda lines: [*lines[:5], lines[6], lines[5], *lines[7:]],
            "line 7: the keys are not in their order",
        ),
        (lambda lines: [*lines, lines[1]], "more behind the last line"),
        (lambda lines: [*lines[:4], b"{}\n", *lines[4:]], "line 5 is no line of an export"),
        (lambda lines: [*lines[:4], lines[4][:10], *lines[5:]], "line 5 is no line"),
        (lambda lines: [b"\xff\n"], "line 1 is no line"),
    ],
)
def test_what_was_changed_is_refused(
    harm: Callable[[list[bytes]], list[bytes]], told: str, folder: Path, tmp_path: Path
) -> None:
    """Cut off, left out, changed, turned round, longer: a sentence, and nothing is left of it."""
    with pytest.raises(Damaged, match=told):
        import_lines(harm(lines_of(folder)), tmp_path / "new")
    assert [one.name for one in tmp_path.iterdir()] == ["data"]


def test_another_version_is_refused(folder: Path, tmp_path: Path) -> None:
    """An export of a later version is not read half."""
    lines = lines_of(folder)
    with pytest.raises(FormatRefused, match="version 2"):
        import_lines([b'{"holdfast_export":2,"format":1}\n', *lines[1:]], tmp_path / "new")


def test_a_place_that_cannot_be_written(folder: Path, tmp_path: Path) -> None:
    """Below a file there is no folder: a storage error."""
    (tmp_path / "file").touch()
    with pytest.raises(StorageError):
        import_lines(lines_of(folder), tmp_path / "file" / "new")
