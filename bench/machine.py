"""What a figure depends on: the machine, its disk, the versions, the commit measured."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import tempfile
import time
from importlib import metadata
from pathlib import Path

PROBES = 50

# One page: what the smallest commit appends, roughly.
PROBE_BYTES = 4096


def describe_machine(folder: Path) -> dict[str, object]:
    """The hardware, the kernel, and how fast the disk under ``folder`` syncs."""
    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "model": processor_model(),
        "memory_gib": memory_gib(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "file_system": file_system(folder),
        "fdatasync_ms": describe_syncs(folder),
    }


def describe_syncs(folder: Path) -> dict[str, float]:
    """How fast the disk under ``folder`` syncs now."""
    sync_ms = probe_sync_ms(folder)
    return {
        "median": statistics.median(sync_ms),
        "min": min(sync_ms),
        "max": max(sync_ms),
        "tries": len(sync_ms),
    }


def probe_sync_ms(folder: Path, tries: int = PROBES) -> list[float]:
    """How many milliseconds each of ``tries`` appended pages takes to reach the disk, without its write."""
    sync = getattr(os, "fdatasync", os.fsync)
    page = os.urandom(PROBE_BYTES)
    took = []
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        for _ in range(tries):
            file.write(page)
            began = time.perf_counter()
            sync(file.fileno())
            took.append((time.perf_counter() - began) * 1000)
    return took


def disk_bytes(folder: Path) -> int:
    """What the files of a folder take on disk."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def processor_model() -> str:
    """The processor's name as the system gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def memory_gib() -> float | None:
    """The memory installed, or None where the system does not say."""
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError, AttributeError):
        return None


def file_system(folder: Path) -> str | None:
    """The type of the file system that holds ``folder`` (such as ext4), or None where it cannot be read."""
    try:
        lines = Path("/proc/mounts").read_text().splitlines()
    except OSError:
        return None
    place = folder.resolve()
    found: tuple[int, str] | None = None
    for line in lines:
        _device, mount, kind, *_ = line.split()
        # The longest mount point above the folder holds it; of two on the same place the later one.
        if place.is_relative_to(mount) and (found is None or len(mount) >= found[0]):
            found = (len(mount), kind)
    return found[1] if found else None


def describe_versions() -> dict[str, str | None]:
    """Python, and the packages that a figure depends on; None for one that is not installed."""
    versions: dict[str, str | None] = {
        "python": f"{platform.python_implementation()} {platform.python_version()}"
    }
    for name in ("lmdb", "msgspec", "uvloop", "holdfast"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    return versions


def git_commit() -> str | None:
    """The commit of the checkout, with ``+`` if tracked files differ from it; None outside of one."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        return git("rev-parse", "HEAD") + (
            "+" if git("status", "--porcelain", "--untracked-files=no") else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return None
