#!/bin/sh
# Starts the web UI on macOS. Finding or fetching a Python is the same there, so this only hands over.
exec sh "$(dirname -- "$0")/start_linux.sh" "$@"
