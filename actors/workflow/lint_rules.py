"""What must not stand in run() outside of steps, by the names of the calls, and what to write in place."""

from __future__ import annotations

from typing import Final, NamedTuple


class Rule(NamedTuple):
    """Why something is no good in run(), and what to use in its place."""

    why: str
    instead: str


CLOCK: Final = Rule("the clock shows another time on replay", "self.now()")
PAUSE: Final = Rule("it holds the event loop and is not durable", "await self.sleep(...)")
CHANCE: Final = Rule("chance falls out otherwise on replay", "self.random")
IDS: Final = Rule("it gives another id on replay", "self.uuid()")
IO: Final = Rule(
    "it is done again on each replay, and may come out otherwise", "a step: await self.step(...)"
)
THREADS: Final = Rule(
    "what other threads and processes do comes in another order on replay",
    "a step: self.step(..., thread=True)",
)
PROCESS: Final = Rule("another process may have another one on replay", "the input, or a step that reads it")
HASHES: Final = Rule("it differs in each process", "a value that is stored")
SETS: Final = Rule("the order of a set differs in each process", "sorted(...), a list or a dict")
SHARED: Final = Rule(
    "it outlives the run: each replay writes it again, and other runs see it",
    "local variables, an actor's fields, or a step",
)

# Calls by their full names.
CALLS: Final[dict[str, Rule]] = {
    **dict.fromkeys(
        (
            "time.time", "time.time_ns", "time.monotonic", "time.monotonic_ns", "time.perf_counter",
            "time.perf_counter_ns", "time.process_time", "time.process_time_ns", "time.thread_time",
            "time.clock_gettime", "time.clock_gettime_ns", "datetime.datetime.now",
            "datetime.datetime.utcnow", "datetime.datetime.today", "datetime.date.today",
        ),
        CLOCK,
    ),
    "time.sleep": PAUSE,
    **dict.fromkeys(("os.urandom", "os.getrandom", "random.SystemRandom"), CHANCE),
    **dict.fromkeys(("uuid.uuid1", "uuid.uuid4", "uuid.uuid6", "uuid.uuid7", "uuid.uuid8"), IDS),
    **dict.fromkeys(("os.getenv", "os.getpid", "os.getppid", "os.getcwd", "os.cpu_count"), PROCESS),
    **dict.fromkeys(("hash", "id"), HASHES),
    **dict.fromkeys(
        (
            "open", "input", "io.open", "os.open", "os.read", "os.write", "os.remove", "os.unlink",
            "os.rename", "os.replace", "os.mkdir", "os.makedirs", "os.rmdir", "os.listdir", "os.scandir",
            "os.stat", "os.walk", "os.system", "os.popen", "os.kill", "os.path.exists", "os.path.isfile",
            "os.path.isdir", "os.path.getsize", "os.path.getmtime", "asyncio.open_connection",
            "asyncio.start_server", "asyncio.open_unix_connection", "asyncio.start_unix_server",
            "asyncio.create_subprocess_exec", "asyncio.create_subprocess_shell",
        ),
        IO,
    ),
    **dict.fromkeys(("asyncio.to_thread", "anyio.to_thread.run_sync", "os.fork"), THREADS),
}  # fmt: skip

# Calls that tell the present time only when they are given this few arguments.
CLOCK_BELOW_ARGUMENTS: Final = {
    "time.localtime": 1,
    "time.gmtime": 1,
    "time.ctime": 1,
    "time.asctime": 1,
    "time.strftime": 2,
}

# Calls of anything in these modules.
MODULES: Final[dict[str, Rule]] = {
    **dict.fromkeys(("random", "secrets", "numpy.random"), CHANCE),
    **dict.fromkeys(
        (
            "socket", "ssl", "socketserver", "select", "selectors", "urllib.request", "http.client",
            "http.server", "ftplib", "smtplib", "imaplib", "poplib", "telnetlib", "xmlrpc", "sqlite3",
            "dbm", "shelve", "tempfile", "shutil", "glob", "fileinput", "requests", "httpx", "httpx2",
            "aiohttp", "urllib3", "httplib2", "websockets", "boto3", "botocore", "aioboto3", "psycopg",
            "psycopg2", "asyncpg", "aiosqlite", "pymysql", "aiomysql", "pymongo", "motor", "redis",
            "aioredis", "pika", "aio_pika", "kafka", "aiokafka", "nats", "paramiko", "asyncssh", "grpc",
            "aiofiles", "stripe",
        ),
        IO,
    ),
    **dict.fromkeys(("threading", "_thread", "concurrent.futures", "multiprocessing", "subprocess"), THREADS),
}  # fmt: skip

# Made with a seed, it gives the same again.
SEEDED: Final = "random.Random"

# Methods, whatever they are called on.
METHODS: Final[dict[str, Rule]] = {
    "run_in_executor": THREADS,
    **dict.fromkeys(("read_text", "write_text", "read_bytes", "write_bytes"), IO),
}

# Names that are read, not called.
NAMES: Final[dict[str, Rule]] = {"os.environ": PROCESS, "sys.argv": PROCESS}

# Methods that change what they are called on.
CHANGING: Final = frozenset(
    {
        "add", "append", "appendleft", "clear", "discard", "extend", "extendleft", "insert", "pop", "popitem",
        "popleft", "put_nowait", "remove", "reverse", "setdefault", "sort", "update",
    }
)  # fmt: skip


def rule_of(name: str, arguments: int) -> Rule | None:
    """The rule that a call of the full name breaks, with so many arguments; None when it breaks none."""
    found = CALLS.get(name)
    if found is not None:
        return found
    if name in CLOCK_BELOW_ARGUMENTS:
        return CLOCK if arguments < CLOCK_BELOW_ARGUMENTS[name] else None
    if name == SEEDED and arguments:
        return None
    module = name.rpartition(".")[0]
    while module:
        found = MODULES.get(module)
        if found is not None:
            return found
        module = module.rpartition(".")[0]
    return None
