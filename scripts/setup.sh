# Sourced by the scripts beside it: `setup EXTRA...` makes ./.venv fit uv.lock. Needs Python >= 3.11 or uv.
# A second run finds nothing to do and asks the network nothing.

cd "$(dirname "${BASH_SOURCE[0]}")/.."

stop() {
    printf '%s\n' "$@" >&2
    exit 1
}

find_python() {
    local candidate
    for candidate in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11 python; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    return 1
}

find_uv() {
    local python
    if command -v uv >/dev/null; then
        uv=uv
        return
    fi
    uv=.venv/bin/uv
    "$uv" --version >/dev/null 2>&1 && return
    python=$(find_python) || stop \
        "No Python 3.11 or newer was found." \
        "Next step: install one, or install uv (https://docs.astral.sh/uv/), which brings its own; then run this again."
    echo "Getting uv into .venv"
    if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
        "$python" -m venv --clear .venv || stop \
            "" \
            "$python cannot make a virtual environment." \
            "Next step: install its venv module (Debian, Ubuntu: apt install python3-venv), or uv; then run this again."
    fi
    .venv/bin/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9' || stop \
        "" \
        "uv could not be installed." \
        "Next step: see that pip reaches a package index (PIP_INDEX_URL names another one); then run this again."
}

setup() {
    local extra options=() stamp
    stamp=".venv/.in-sync-$(IFS=-; echo "$*")"
    if [ "$stamp" -nt uv.lock ] && [ "$stamp" -nt pyproject.toml ] && [ "$(cat "$stamp")" = "$PWD" ]; then
        return
    fi
    # Its programs name the folder they were installed into. In one that was moved or copied they no longer start.
    if [ -e "$stamp" ] && [ "$(cat "$stamp")" != "$PWD" ]; then rm -rf .venv; fi
    for extra in "$@"; do options+=(--extra "$extra"); done
    find_uv
    # Inexact: what another script installed, and uv itself, stay.
    # Its own environment, whichever one happens to be active.
    env -u VIRTUAL_ENV UV_PROJECT_ENVIRONMENT=.venv "$uv" sync --locked --inexact --quiet "${options[@]}" || stop \
        "" \
        ".venv could not be brought in line with uv.lock (the reason stands above)." \
        "Next step: if pyproject.toml was edited, run '$uv lock'; then run this again."
    echo "$PWD" >"$stamp"
}
