#!/bin/sh
# Opens a shell in the web UI's environment, with its python and pip. cmd_macos.sh runs this file.
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P) || exit 1
env=$here/installer_files/env
[ -x "$env/bin/python" ] || {
    echo "The environment does not exist yet. Run start_linux.sh (on macOS: start_macos.sh) first." >&2
    exit 1
}
# CUDA's libraries in NVIDIA's packages, as in the start script.
for libraries in "$env"/lib/python3*/site-packages/nvidia/*/lib; do
    [ ! -d "$libraries" ] || export LD_LIBRARY_PATH="$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
done
unset PYTHONHOME PYTHONPATH PYTHONSAFEPATH PYTHONPLATLIBDIR PYTHONEXECUTABLE PYTHONOPTIMIZE
export PYTHONNOUSERSITE=1 VIRTUAL_ENV="$env" PATH="$env/bin:$PATH"
cd "$here" || exit 1
echo "This is the environment of the web UI. \"python -m pip list\" lists its packages; \"exit\" leaves it."
[ $# -eq 0 ] || exec "$@"
exec "${SHELL:-sh}"
