#!/bin/sh
# A shell inside the environment of the web UI: python and pip are its own. cmd_macos.sh is this same file.
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P) || exit 1
env=$here/installer_files/env
[ -x "$env/bin/python" ] || {
    echo "There is no environment yet: start_linux.sh (on macOS start_macos.sh) makes it." >&2
    exit 1
}
# CUDA's libraries, where NVIDIA's packages keep them, as the start script sets them.
for libraries in "$env"/lib/python3*/site-packages/nvidia/*/lib; do
    [ ! -d "$libraries" ] || export LD_LIBRARY_PATH="$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
done
unset PYTHONHOME PYTHONPATH PYTHONSAFEPATH PYTHONPLATLIBDIR PYTHONEXECUTABLE PYTHONOPTIMIZE
export PYTHONNOUSERSITE=1 VIRTUAL_ENV="$env" PATH="$env/bin:$PATH"
cd "$here" || exit 1
echo "This is the environment of the web UI. \"python -m pip list\" shows what is in it; \"exit\" leaves it."
[ $# -eq 0 ] || exec "$@"
exec "${SHELL:-sh}"
