#!/bin/sh
# Brings the web UI up to date, on macOS: the same as on Linux.
exec sh "$(dirname -- "$0")/update_linux.sh" "$@"
