"""CPU of every process that has a part, from /proc: who pays for a thousand requests.

A process counts with all its descendants (Postgres' backends, a server's workers), also those that have ended, except
for those that are listed under a name of their own.
"""

import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import monotonic

from msgspec import Struct

PROC = Path("/proc")
NAMES = {
    "api": "server",
    "serve": "server",
    "web": "server",
    "valkey": "redis",
    "pg": "postgres",
    "postmaster": "postgres",
}
"""Other words for the same process."""
ORDER = ("server", "worker", "redis", "postgres")
"""In which they are shown; others follow."""
LAUNCHERS = frozenset({"dev"})
"""They started the others and have no part in what is measured."""
_UTIME, _CSTIME = 11, 14
"""utime, stime, cutime and cstime among the fields behind the command's closing bracket; see proc_pid_stat(5)."""
_PPID = 1


class CpuSample(Struct, frozen=True):
    """CPU seconds used until one instant, by name of process."""

    at: float
    seconds: dict[str, float]
    busy_seconds: float = 0.0
    """Of the whole machine, all cores together: anybody's, the kernel's, and what the hypervisor kept."""


def _fields(pid: int) -> list[str]:
    """Return the fields of /proc/<pid>/stat behind the command; none if the process is gone."""
    with contextlib.suppress(OSError):
        return (PROC / str(pid) / "stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    return []


def _busy_seconds() -> float:
    """Return what all cores together have worked; see proc_stat(5)."""
    with contextlib.suppress(OSError):
        user, nice, system, _, _, *rest = (PROC / "stat").read_text(encoding="ascii").split()[1:9]
        return sum(map(int, (user, nice, system, *rest))) / os.sysconf("SC_CLK_TCK")
    return 0.0


def available() -> bool:
    """Return whether this system tells CPU times by /proc."""
    return bool(_fields(os.getpid()))


class Processes:
    """The processes of a service, by name."""

    def __init__(self, pids: Mapping[str, int | Sequence[int]]) -> None:
        found: dict[str, list[int]] = {}
        for name, value in pids.items():
            listed = [value] if isinstance(value, int) else list(value)
            found.setdefault(NAMES.get(name, name), []).extend(listed)
        shown = [name for name in ORDER if name in found]
        shown += [name for name in found if name not in {*ORDER, *LAUNCHERS}]
        self._roots = {name: found[name] for name in shown}

    @property
    def names(self) -> list[str]:
        """Names, in the order they were given."""
        return list(self._roots)

    def add(self, name: str, pid: int) -> None:
        """Watch another process."""
        self._roots[name] = [pid]

    def families(self) -> dict[str, list[int]]:
        """Return the ids of every live process, by the name it counts under."""
        children: dict[int, list[int]] = {}
        for entry in PROC.iterdir():
            if entry.name.isdigit() and (fields := _fields(int(entry.name))):
                children.setdefault(int(fields[_PPID]), []).append(int(entry.name))
        named = {pid for pids in self._roots.values() for pid in pids}
        families: dict[str, list[int]] = {}
        for name, roots in self._roots.items():
            queue, family = list(roots), []
            while queue:
                pid = queue.pop()
                family.append(pid)
                queue += [child for child in children.get(pid, ()) if child not in named]
            families[name] = family
        return families

    def sample(self) -> CpuSample:
        """Return what each has used so far; nothing where the system does not tell."""
        tick = 1 / os.sysconf("SC_CLK_TCK")
        used = {}
        for name, family in self.families().items() if available() else ():
            stats = [fields for pid in family if (fields := _fields(pid))]
            used[name] = sum(int(value) for fields in stats for value in fields[_UTIME : _CSTIME + 1]) * tick
        return CpuSample(monotonic(), used, _busy_seconds())

    def pin(self, cores: set[int]) -> None:
        """Keep every thread of every one of them on `cores`."""
        for family in self.families().values():
            for pid in family:
                with contextlib.suppress(OSError):
                    for task in (PROC / str(pid) / "task").iterdir():
                        os.sched_setaffinity(int(task.name), cores)


def used_between(samples: Sequence[CpuSample], begin: float, end: float) -> dict[str, float]:
    """Return the CPU seconds each process used from `begin` to `end`, between samples in a straight line."""
    if not samples:
        return {}
    names = samples[0].seconds.keys()
    # What ended and was not waited for takes its time along: never less than nothing.
    return {name: max(0.0, _at(samples, name, end) - _at(samples, name, begin)) for name in names}


def others_cores(samples: Sequence[CpuSample]) -> float:
    """Return how many cores were busy with what is not listed, on average from the first to the last sample."""
    first, last = samples[0], samples[-1]
    ours = sum(last.seconds.values()) - sum(first.seconds.values())
    return max(0.0, last.busy_seconds - first.busy_seconds - ours) / max(last.at - first.at, 0.001)


def _at(samples: Sequence[CpuSample], name: str, at: float) -> float:
    before = samples[0]
    for sample in samples:
        if sample.at >= at:
            width = sample.at - before.at
            share = (at - before.at) / width if width > 0 else 0.0
            low = before.seconds.get(name, 0.0)
            return low + max(share, 0.0) * (sample.seconds.get(name, 0.0) - low)
        before = sample
    return before.seconds.get(name, 0.0)


def cores() -> list[int]:
    """Return the cores this process may use, or nothing where the system does not tell."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def generators_core() -> int | None:
    """Return the core the generator should have for itself: the last one, if there is more than one."""
    found = cores()
    return found[-1] if len(found) > 1 else None
