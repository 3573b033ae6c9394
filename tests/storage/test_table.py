"""storage/table.py: rows and their index entries stay one."""

from __future__ import annotations

import enum
import uuid
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.storage import layout
from holdfast.storage.errors import CallerError, InvalidKey, InvalidValue
from holdfast.storage.group_commit import Writes
from holdfast.storage.keys import Key, encode_index_values, encode_key, encode_number
from holdfast.storage.table import RowExists, Table, index_value, stored_index_values, table_schema

ROWS = layout.data_prefix(1) + layout.ROW + b"job\x00"
INDEX = layout.data_prefix(1) + layout.ROW_INDEX + b"job\x00"


class Status(enum.Enum):
    OPEN = "open"
    DONE = "done"


class Job(msgspec.Struct):
    id: str | int
    status: Status = Status.OPEN
    priority: float = 0.0
    owner: str | None = None
    due: datetime | None = None
    note: bytes = b""


class Compact(msgspec.Struct, array_like=True, tag="c"):
    id: int
    group: str = ""


class Memory:
    """A table's access over a dict; a failed write would show as a half-changed dict."""

    def __init__(self) -> None:
        self.data: dict[bytes, bytes] = {}

    def read(self, key: bytes) -> bytes | None:
        return self.data.get(key)

    def scan(
        self, start: bytes, end: bytes | None, reverse: bool, limit: int | None
    ) -> list[tuple[bytes, bytes]]:
        rows = sorted(
            (key, value) for key, value in self.data.items() if start <= key and (end is None or key < end)
        )
        return (rows[::-1] if reverse else rows)[:limit]

    def write(self, key: bytes, value: bytes | None) -> None:
        if value is None:
            self.data.pop(key, None)
        else:
            self.data[key] = value


INDEXES = ("status", ("status", "priority"), ("owner", "due"))


def job_table(memory: Memory | None = None, owner: bytes | None = b"") -> Table[Job]:
    return Table(memory or Memory(), Job, table_schema(Job, "id", INDEXES), ROWS, INDEX, owner)


IDS = st.one_of(st.sampled_from(["a", "b", "a\x00", "", "ä"]), st.integers(-3, 3))
TIMES = st.datetimes(datetime(1960, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))
JOBS = st.builds(
    Job,
    id=IDS,
    status=st.sampled_from(Status),
    priority=st.one_of(st.floats(allow_nan=False), st.integers(-5, 5)),
    owner=st.one_of(st.none(), st.text(max_size=4)),
    due=st.one_of(st.none(), TIMES),
    note=st.binary(max_size=3),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["put", "insert", "upsert"]), JOBS),
        st.tuples(st.just("delete"), JOBS),
    ),
    max_size=12,
)


@given(STEPS)
def test_indexes_are_exact_after_any_sequence(steps: list[tuple[str, Job]]) -> None:
    """After any puts, inserts, upserts and deletes each row has just its entries, as `check` computes them
    from the bytes."""
    memory = Memory()
    table = job_table(memory)
    model: dict[str | int, Job] = {}
    for verb, job in steps:
        if verb == "put":
            table.put(job)
            model[job.id] = job
        elif verb == "insert":
            if job.id in model:
                with pytest.raises(RowExists):
                    table.insert(job)
            else:
                table.insert(job)
                model[job.id] = job
        elif verb == "upsert":
            stored = table.upsert(job, lambda old, new: msgspec.structs.replace(new, note=old.note + b"!"))
            model[job.id] = stored
        else:
            assert table.delete(job.id) == (job.id in model)
            model.pop(job.id, None)
    schema = table_schema(Job, "id", INDEXES)
    rows = {key: value for key, value in memory.data.items() if key.startswith(ROWS)}
    entries = {key: value for key, value in memory.data.items() if key.startswith(INDEX)}
    wanted = {
        INDEX
        + bytes((n,))
        + encode_index_values(stored_index_values(schema, names, value))
        + key[len(ROWS) :]: key[len(ROWS) :]
        for key, value in rows.items()
        for n, names in enumerate(schema.indexes)
    }
    assert entries == wanted
    assert len(rows) + len(entries) == len(memory.data)
    for key, job in model.items():
        assert table.get(key) == job
    assert len(table.select()) == len(model) == table.count()


@given(st.lists(JOBS, max_size=12), st.sampled_from(Status), st.booleans(), st.integers(1, 4))
def test_select_filters_orders_and_pages(jobs: list[Job], status: Status, reverse: bool, page: int) -> None:
    """Rows of a status come by priority, page after page, each row once."""
    table = job_table()
    for job in jobs:
        table.put(job)
    model = {job.id: job for job in jobs}
    wanted = [job for job in model.values() if job.status is status]
    found: list[Job] = []
    after: Job | None = None
    while rows := table.select(status=status, order_by="priority", reverse=reverse, limit=page, after=after):
        found += rows
        after = rows[-1]
    priorities = [job.priority for job in found]
    assert priorities == sorted(priorities, reverse=reverse)
    assert sorted(found, key=repr) == sorted(wanted, key=repr)
    assert table.count(status=status) == len(wanted)


@given(st.lists(st.tuples(st.integers(1, 300), JOBS), max_size=12), st.integers(1, 3))
def test_a_shared_table_is_read_over_all_owners(jobs: list[tuple[int, Job]], page: int) -> None:
    """Each owner sees its own rows by key; the reader sees those of all in one index."""
    memory = Memory()
    model: dict[tuple[int, str | int], Job] = {}
    for number, job in jobs:
        job_table(memory, encode_number(number)).put(job)
        model[number, job.id] = job
    for number in {number for number, _ in model}:
        mine = job_table(memory, encode_number(number))
        assert all(mine.get(key) == job for (owner, key), job in model.items() if owner == number)
        assert mine.count() == sum(owner == number for owner, _ in model)
    reader = job_table(memory, None)
    assert reader.count() == len(model)
    found = reader.select(status=Status.OPEN)
    assert sorted(found, key=repr) == sorted((j for j in model.values() if j.status is Status.OPEN), key=repr)
    if len({(job.id, job.priority) for job in found}) == len(found):
        paged: list[Job] = []
        after: Job | None = None
        while rows := reader.select(status=Status.OPEN, order_by="priority", limit=page, after=after):
            paged += rows
            after = rows[-1]
        assert sorted(paged, key=repr) == sorted(found, key=repr)


def test_an_ambiguous_page_is_refused() -> None:
    """Where two owners have the same row the reader says so instead of losing or repeating rows."""
    memory = Memory()
    for number in (1, 2):
        job_table(memory, encode_number(number)).put(Job("a"))
    reader = job_table(memory, None)
    with pytest.raises(CallerError, match="2 rows of Job have id='a'"):
        reader.select(status=Status.OPEN, after=Job("a"))
    with pytest.raises(CallerError, match="give order_by"):
        reader.select(after=Job("a"))
    with pytest.raises(CallerError, match="ask it with select"):
        reader.get("a")


def test_rows_are_stored_as_their_types_read_them() -> None:
    """A whole number in a float field is a float: on disk, in the index and in a question."""
    table = job_table()
    table.put(Job("a", priority=5))
    assert type(table.select()[0].priority) is float
    for asked in (5, 5.0):
        assert [job.id for job in table.select(status=Status.OPEN, priority=asked)] == ["a"]


def test_values_are_found_by_member_or_by_value() -> None:
    """An enum's field can be asked for with the member or with what it stands for."""
    table = job_table()
    table.put(Job("a", status=Status.DONE))
    assert table.count(status=Status.DONE) == table.count(status="done") == 1


def test_changing_a_row_outside_changes_nothing_stored() -> None:
    """What was put and what was read are copies."""
    table = job_table()
    job = Job("a")
    table.put(job)
    job.owner = "ann"
    read = table.get("a")
    assert read is not None
    read.owner = "bob"
    assert table.get("a") == Job("a")


def test_a_put_of_the_same_row_writes_nothing() -> None:
    """Bytes that don't change cost no write."""
    memory = Memory()
    table = job_table(memory)
    table.put(Job("a"))
    memory.write = None  # type: ignore[assignment, method-assign]
    table.put(Job("a"))


def test_an_entry_that_is_too_long_changes_nothing() -> None:
    """An indexed value that LMDB couldn't hold is refused before anything is written."""
    memory = Memory()
    table = job_table(memory)
    table.put(Job("a", owner="ann"))
    before = dict(memory.data)
    with pytest.raises(InvalidKey, match=r"index \('owner', 'due'\) of Job.*at most 500"):
        table.put(Job("a", owner="x" * 500))
    assert memory.data == before


@pytest.mark.parametrize(
    ("row", "error"),
    [
        (Compact(1), "expected a Job, got Compact"),
        (Job("a", due=datetime(2020, 1, 1)), "needs a time zone"),
        (Job("a", note=object()), "can't be stored"),  # type: ignore[arg-type]
        (Job("a", owner=5), "can't be stored"),  # type: ignore[arg-type]
    ],
)
def test_bad_rows_are_refused(row: Job, error: str) -> None:
    """A row that doesn't fit its type is refused, and nothing of it is written."""
    memory = Memory()
    with pytest.raises(InvalidValue, match=error):
        job_table(memory).put(row)
    assert memory.data == {}


def test_merge_may_not_move_a_row() -> None:
    """`upsert` refuses a merge that changes the key."""
    table = job_table()
    table.put(Job("a"))
    with pytest.raises(InvalidKey, match="merge changed id"):
        table.upsert(Job("a"), lambda old, new: Job("b"))


@pytest.mark.parametrize("question", [{"owner": "x", "status": "open"}, {"priority": 1.0}])
def test_a_question_without_index_is_refused(question: dict[str, object]) -> None:
    """Only what an index begins with can be asked; the message lists the indexes."""
    with pytest.raises(CallerError, match="no index of Job begins with"):
        job_table().select(**question)  # type: ignore[arg-type]


def test_an_array_with_a_tag_is_indexed_right() -> None:
    """Rows encoded as arrays keep their entries provable, tag and later fields included."""
    memory = Memory()
    schema = table_schema(Compact, "id", ("group",))
    table = Table(memory, Compact, schema, ROWS, INDEX)
    table.put(Compact(1, "g"))
    assert stored_index_values(schema, ("id", "group"), memory.data[ROWS + encode_key(1)]) == (1, "g")
    assert table.select(group="g") == [Compact(1, "g")]


@pytest.mark.parametrize(
    ("row_type", "key", "indexes", "error"),
    [
        (msgspec.defstruct("R", ["id"], rename="camel"), "id", (), None),
        (msgspec.defstruct("R", ["my_id"], rename="camel"), "my_id", (), "renames fields"),
        (msgspec.defstruct("R", [("id", int, 0)], omit_defaults=True), "id", (), "omits defaults"),
        (msgspec.defstruct("R", ["id"]), "uid", (), "has no field 'uid'"),
        (msgspec.defstruct("R", ["id"]), "id", ("size",), "has no field 'size'"),
        (dict, "id", (), "must be a msgspec.Struct"),
    ],
)
def test_schemas_that_indexes_cannot_follow_are_refused(
    row_type: type[msgspec.Struct], key: str, indexes: tuple[str, ...], error: str | None
) -> None:
    """A schema names real fields, and its rows hold all of them under their own names."""
    if error is None:
        assert table_schema(row_type, key, indexes).key == key
    else:
        with pytest.raises(InvalidValue, match=error):
            table_schema(row_type, key, indexes)


def test_index_values_of_all_kinds() -> None:
    """Times order as instants whatever their zone; dates and UUIDs as their text; others are refused."""
    noon = datetime(2024, 5, 1, 12, tzinfo=UTC)
    east = noon.astimezone(timezone(timedelta(hours=2)))
    assert index_value(noon) == index_value(east)
    assert index_value(datetime(1960, 1, 1, tzinfo=UTC)) < index_value(noon)  # type: ignore[operator]
    assert index_value(date(2024, 5, 1)) == "2024-05-01"
    assert index_value(uuid.UUID(int=1)) == str(uuid.UUID(int=1))
    with pytest.raises(InvalidValue, match="list can't be indexed"):
        index_value([])


def test_writes_of_a_table_are_plain() -> None:
    """A row and its entries are all that a put writes, each entry naming its row."""
    memory = Memory()
    job_table(memory).put(Job("a"))
    key: Key = "a"
    writes: Writes = dict(memory.data)
    assert writes.pop(ROWS + encode_key(key)) is not None
    assert set(writes.values()) == {encode_key(key)}
    assert len(writes) == 3


def test_a_torn_table_is_told_when_read(tmp_path: Path) -> None:
    """An entry without its row is told when a query meets it, with what to do."""
    memory = Memory()
    table = job_table(memory)
    table.put(Job("a"))
    del memory.data[ROWS + encode_key("a")]
    with pytest.raises(InvalidValue, match="has no row; run `holdfast check`"):
        table.select(status="open")
