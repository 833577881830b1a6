#!/bin/sh
# Brings the web UI up to date: the project by git, then its environment. The old environment is kept:
# "./update_linux.sh --go-back" brings it back, "./update_linux.sh --repair" makes a new one of the same version.
[ $# -eq 0 ] && set -- --update
exec sh "$(dirname -- "$0")/start_linux.sh" "$@"
