"""What a run of `scripts/test` did not prove: listed at its end, and red but for what may stay so by name.

Whoever cannot look appends a line to the file that `UNPROVEN` names, its name and the reason with a tab between:
pytest for each test that is skipped (`tests/conftest.py`), `scripts/audit.py`, `scripts/test-at`.
"""

import os
import sys
from pathlib import Path

MAY_STAY = {
    "advisories": "a network without a package index knows none; a release is audited where there is one",
}
"""By name, and why. All else fails the run: a machine that cannot look is given what it lacks."""


def note(name: str, reason: str) -> None:
    """Append a line, if somebody collects them."""
    if file := os.environ.get("UNPROVEN"):
        with Path(file).open("a", encoding="utf-8") as lines:
            lines.write(f"{name}\t{' '.join(reason.split())}\n")


def main(file: str) -> int:
    """List what was not proven, each once; return 1 if something may not stay so."""
    found = dict(line.split("\t", 1) for line in Path(file).read_text(encoding="utf-8").splitlines())
    for name, reason in sorted(found.items()):
        allowed = f"May stay so: {MAY_STAY[name]}." if name in MAY_STAY else "It has to be: this run fails."
        print(f"*** NOT PROVEN: {name}: {reason} ***\n    {allowed}")
    return int(bool(found.keys() - MAY_STAY.keys()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
