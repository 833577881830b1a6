#!/usr/bin/env bash
# Sets everything up in a fresh clone and runs every check: style, format, types, the import contract, the tests.
#   ./run_tests.sh             everything; continues after a failure, so that one run shows all failures
#   ./run_tests.sh -k name     with arguments: only pytest, with these arguments
# CHROMIUM=path is the browser for the page tests; without it, the usual names are tried.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")" || exit 1

# Containers often set it; each program that a test starts would compile all that it imports again.
unset PYTHONDONTWRITEBYTECODE

results=()
failed=0
step() { # NAME COMMAND...
    local name=$1 start=$SECONDS rc=0
    shift
    echo "== $name"
    "$@" || rc=$?
    results+=("$(printf '%-28s %4d s   %s' "$name" $((SECONDS - start)) "$([ $rc = 0 ] && echo ok || echo "FAILED ($rc)")")")
    [ $rc = 0 ] || failed=1
    return $rc
}
finish() {
    echo "== summary"
    printf '%s\n' "${results[@]}"
    exit $failed
}

environment() {
    # Without a terminal for questions and without an earlier answer, the tests need no GPU.
    if [ ! -t 0 ] && [ ! -f installer_files/state.json ]; then export GPU_CHOICE=${GPU_CHOICE:-N}; fi
    LAUNCH_AFTER_INSTALL=no ./start_linux.sh
}

python=installer_files/env/bin/python
test_tools() { # the stamp file is in the environment: a new environment has none
    local stamp=installer_files/env/test-tools.txt
    cat requirements*.txt | cmp -s - "$stamp" && return 0
    "$python" -c 'import one_click, sys; one_click.install_requirements(sys.argv[1])' requirements-dev.txt || return 1
    ./start_linux.sh --install-torch || return 1
    cat requirements*.txt >"$stamp"
}

browser() {
    local name
    for name in "${CHROMIUM:-}" chromium chromium-browser google-chrome google-chrome-stable; do
        [ -n "$name" ] && CHROMIUM=$(command -v "$name") && export CHROMIUM && return 0
    done
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "Installing Debian's chromium for the page tests ..."
        apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends chromium >/dev/null
        CHROMIUM=$(command -v chromium) && export CHROMIUM && return 0
    fi
    echo "Chromium, which the page tests need, was not found. Install it (Debian: sudo apt install chromium), or set CHROMIUM to its path." >&2
    return 1
}

wine_cmd() { # for tests of the Windows scripts; without it, they are skipped with a message
    command -v wine >/dev/null && return 0
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "Installing Debian's wine for the tests of the Windows scripts ..."
        DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends wine >/dev/null 2>&1
    fi
    command -v wine >/dev/null || echo "wine is not installed: the tests of the Windows scripts are skipped."
}

step "environment" environment || finish
step "test tools" test_tools || finish
step "browser" browser
step "wine" wine_cmd

run() { step "$1" "$python" -m "${@:2}"; }
if [ $# -gt 0 ]; then
    run "pytest $*" pytest "$@"
    finish
fi
run "ruff check" ruff check .
run "ruff format" ruff format --check .
run "mypy" mypy
step "import contract" "$python" -c 'import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())'
# one process per core, each with whole files: what a file shares is created once
run "pytest" pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder
finish
