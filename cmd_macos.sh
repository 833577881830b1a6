#!/bin/sh
# A shell inside the environment of the web UI, on macOS: the same as on Linux.
exec sh "$(dirname -- "$0")/cmd_linux.sh" "$@"
