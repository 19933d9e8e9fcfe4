"""What the image holds, by uv.lock: no version that advisories name, no licence but those allowed here."""

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from packaging.markers import Marker
from unproven import note

ROOT = Path(__file__).resolve().parent.parent
MAX_SECONDS = 50
"""For all advisories together; the whole check is to take a minute at most."""
ANSWER_SECONDS = 10
UNREACHABLE = "Could not connect"
"""What pip-audit says where no package index answers."""

PERMISSIVE = {"0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSD", "CNRI-Python", "ISC", "MIT", "MIT-0"}
ALLOWED = PERMISSIVE | {"MPL-2.0", "PSF-2.0", "Python-2.0", "Unlicense", "Zlib"}
"""SPDX names; as parts of the service they ask for no more than that their text is kept."""
CLASSIFIERS = {
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "MIT No Attribution License (MIT-0)": "MIT-0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "The Unlicense (Unlicense)": "Unlicense",
}
IN_WORDS = {"Apache 2.0": "Apache-2.0", "Apache License 2.0": "Apache-2.0", "MIT License": "MIT", "BSD License": "BSD"}
IN_WORDS |= {"Apache License, Version 2.0": "Apache-2.0", "Apache 2": "Apache-2.0", "Apache": "Apache-2.0"}


def in_image(lock: dict[str, Any]) -> dict[str, str]:
    """Return name and version of everything that `uv sync --no-dev` puts beside growth, on this platform."""
    packages = {one["name"]: one for one in lock["package"]}
    found: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    todo = [("growth", "")]
    while todo:
        name, extra = todo.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        package = packages[name]
        if name != "growth":
            found[name] = package["version"]
        needed = package.get("optional-dependencies", {}).get(extra, []) if extra else package.get("dependencies", [])
        for one in needed:
            if "marker" not in one or Marker(one["marker"]).evaluate():
                todo += [(one["name"], wanted) for wanted in ("", *one.get("extra", ()))]
    return found


def licence_of(name: str) -> str | None:
    """Return an SPDX expression of what the installed package says of itself; None if it says nothing."""
    told = distribution(name).metadata
    if told["License-Expression"]:
        return told["License-Expression"]
    marked = [one.rpartition(" :: ")[2] for one in told.get_all("Classifier", []) if one.startswith("License :: ")]
    named = [CLASSIFIERS.get(one, one) for one in marked if one != "OSI Approved"]
    if named:
        return " AND ".join(named)
    said = (told["License"] or "").strip().partition("\n")[0]
    return IN_WORDS.get(said, said) or None


def is_allowed(expression: str) -> bool:
    """Say whether all sides of each AND are allowed, of an OR one side; of what is nested rather no than yes."""
    sides = re.split(r"\s+AND\s+", re.sub(r"[()]", "", expression))
    return all(any(one.strip() in ALLOWED for one in re.split(r"\s+OR\s+", side)) for side in sides)


def unlicensed(names: list[str]) -> Iterator[str]:
    """Yield what may not be in the image, and why."""
    for name in names:
        try:
            licence = licence_of(name)
        except PackageNotFoundError:
            yield f"{name} is not installed here, so its licence is unknown"
            continue
        if licence is None or not is_allowed(licence):
            yield f"{name}: {licence or 'no licence told'} is not among {', '.join(sorted(ALLOWED))}"


def vulnerable(pinned: dict[str, str]) -> tuple[list[str], tuple[str, str] | None]:
    """Return what advisories name; and what of it is not known, and why, if something is not."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "requirements.txt"
        file.write_text("".join(f"{name}=={version}\n" for name, version in sorted(pinned.items())), encoding="ascii")
        asked = ["-r", str(file), "--no-deps", "--disable-pip", "--timeout", str(ANSWER_SECONDS)]
        command = [sys.executable, "-m", "pip_audit", *asked, "--progress-spinner", "off", "--format", "json"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=MAX_SECONDS, check=False)  # noqa: S603
        except subprocess.TimeoutExpired:
            return [], ("advisories", f"no answer within {MAX_SECONDS} s")
    try:
        told = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        why = (done.stderr.strip().splitlines() or ["pip-audit said nothing"])[-1][:300]
        return [], ("advisories" if UNREACHABLE in why else "advisories, for pip-audit failed", why)
    findings = [
        f"{one['name']} {one['version']}: {flaw['id']}, mended in {', '.join(flaw['fix_versions']) or 'no version yet'}"
        for one in told
        for flaw in one.get("vulns", ())
    ]
    unknown = [one for one in told if "skip_reason" in one]
    if not unknown and len(told) == len(pinned):
        return findings, None
    why = unknown[0]["skip_reason"][:200] if unknown else "the others were left out"
    missing = len(unknown) or len(pinned) - len(told)
    what = "advisories" if missing == len(pinned) else "advisories of some packages"
    return findings, (what, f"{missing} of {len(pinned)} packages are not known of: {why}")


def main() -> int:
    """Check both, say what was found, and return the exit code."""
    pinned = in_image(tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8")))
    findings = list(unlicensed(sorted(pinned)))
    print(f"Licences: {len(pinned)} packages in the image, {len(findings)} not allowed.")
    flaws, unproven = vulnerable(pinned)
    if unproven is None:
        print(f"Advisories: {len(flaws)} name a version in the image.")
    else:
        print(f"\n*** NOT PROVEN: {unproven[0]} could not be read ({unproven[1]}). ***")
        print("*** Nobody looked for known vulnerabilities. Run scripts/audit where the network is. ***\n")
        note(*unproven)
    for finding in findings + flaws:
        print(f"  {finding}", file=sys.stderr)
    return 1 if findings or flaws else 0


if __name__ == "__main__":
    sys.exit(main())
