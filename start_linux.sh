#!/bin/sh
# Starts the web UI. The first start installs everything into installer_files/ next to this file; nothing outside
# of it is touched but the package client's own cache. Deleting installer_files/ and starting again repairs it.
#
# This shell only finds a Python that can do the rest, which is one_click.py. Where the machine has none, a private
# one is fetched: python-build-standalone, pinned by version and SHA-256. PYTHON_MIRROR=URL replaces the address
# below, for machines that reach a mirror only; the files below it must have the same names.
# start_macos.sh is this same file. Plain POSIX shell, so that dash and busybox run it too.
set -u

release=20261110
version=3.12.16
mirror=${PYTHON_MIRROR:-https://github.com/astral-sh/python-build-standalone/releases/download}

fail() {
    printf '\n%s\n' "$*" >&2
    exit 1
}

self=$(readlink -f -- "$0" 2>/dev/null) || self=$0
here=$(CDPATH='' cd -- "$(dirname -- "$self")" && pwd -P) || fail "The folder of $0 cannot be entered; check its permissions."
cd -- "$here" || exit 1

# What Python environments really cannot live with (tried one by one); spaces, accents, quotes and so on are fine.
# one_click.py checks the same; here it comes before anything is downloaded.
case $here in
*:*) fail "The folder name contains a colon, which Python environments cannot work with. Move it to another path and start again: $here" ;;
*[[:cntrl:]]*) fail "The folder name contains a tab, a line break or another control character. Move it to another path and start again: $here" ;;
esac
for part in one_click.py installer/__init__.py; do
    [ -f "$part" ] || fail "$part is missing in $here; get the complete project (git clone) and start again."
done

# Debian's python3 without python3-venv has no ensurepip; such a Python does not count.
usable() {
    "$1" -I -c 'import sys, ssl, ctypes, venv, ensurepip
sys.exit(not ((3, 10) <= sys.version_info[:2] <= (3, 13) and sys.maxsize > 2**32))' >/dev/null 2>&1
}

# 3.12 and 3.11 first: ready-made GPU packages exist for them most often.
find_python() {
    for python in "$here/installer_files/python/bin/python3" \
        python3.12 python3.11 python3.13 python3.10 python3 python; do
        python=$(command -v "$python" 2>/dev/null) && usable "$python" && return 0
    done
    return 1
}

download() { # URL FILE
    if command -v curl >/dev/null 2>&1; then
        curl -fL -# --connect-timeout 20 --speed-limit 1000 --speed-time 30 --retry 2 -o "$2" "$1"
    else
        wget -T 30 -O "$2" "$1"
    fi
}

sha256_of() { # FILE
    if command -v sha256sum >/dev/null 2>&1; then
        sha256sum <"$1"
    elif command -v shasum >/dev/null 2>&1; then
        shasum -a 256 <"$1"
    else
        openssl dgst -sha256 -r <"$1"
    fi | cut -d ' ' -f 1
}

fetch_python() {
    case $(uname -s)-$(uname -m) in
    Linux-x86_64)
        target=x86_64-unknown-linux-gnu
        sha256=6a9e62dad033790aef722dbd370e0ce76ce17b73627ba3ae679f537049350b39
        ;;
    Linux-aarch64 | Linux-arm64)
        target=aarch64-unknown-linux-gnu
        sha256=b6a41defec4975d94b4ff1950236e7383e5c02ba40ea48c9ec33c66087a35aab
        ;;
    Darwin-arm64)
        target=aarch64-apple-darwin
        sha256=2f11b8aa3726bdbd87dd9eb76568412faddf4f47e26913fa45d6a2e424972acd
        ;;
    Darwin-x86_64)
        target=x86_64-apple-darwin
        sha256=b78a4c479f1964ec484880bee567568266f68da102269fb93a05fe8716b45f91
        ;;
    *) fail "There is no ready-made Python for this machine ($(uname -s) $(uname -m)). Install Python 3.10 to 3.13 with venv and start again." ;;
    esac
    command -v tar >/dev/null 2>&1 || fail "No Python 3.10 to 3.13 is installed, and tar is missing to unpack one. Install either and start again."
    command -v curl >/dev/null 2>&1 || command -v wget >/dev/null 2>&1 ||
        fail "No Python 3.10 to 3.13 is installed, and neither curl nor wget is there to fetch one. Install one of the three and start again."

    echo "No Python 3.10 to 3.13 with venv is installed: fetching a private Python $version (35 MB) into installer_files/ ..."
    mkdir -p installer_files 2>/dev/null || fail "This folder cannot be written to: $here. Change its owner or permissions, or move it, and start again."
    unpack=installer_files/python.part
    rm -rf "$unpack"
    # Whatever ends this early leaves nothing behind.
    trap 'rm -rf "$unpack"; rmdir installer_files 2>/dev/null' EXIT
    trap 'exit 130' INT TERM HUP
    mkdir "$unpack" || fail "This folder cannot be written to: $here/installer_files. Change its owner or permissions and start again."
    download "$mirror/$release/cpython-$version%2B$release-$target-install_only_stripped.tar.gz" "$unpack/python.tar.gz" ||
        fail "Python could not be downloaded: check the network connection (and HTTPS_PROXY, if you need a proxy) and the space on the disk, then start again. Or install Python 3.10 to 3.13 yourself."
    [ "$(sha256_of "$unpack/python.tar.gz")" = "$sha256" ] ||
        fail "The downloaded Python is not the expected file (its SHA-256 differs), so it was thrown away. Start again; if it happens again, something on the way changes downloads."
    (cd "$unpack" && tar -xzf python.tar.gz) || fail "The downloaded Python could not be unpacked; is the disk full?"
    usable "$unpack/python/bin/python3" ||
        fail "The downloaded Python does not run on this system. Install Python 3.10 to 3.13 with venv by your package manager and start again."
    rm -rf installer_files/python
    mv "$unpack/python" installer_files/python || fail "installer_files/python could not be written; check permissions and start again."
    rm -rf "$unpack"
    trap - EXIT INT TERM HUP
    python=$here/installer_files/python/bin/python3
}

# What changes where a Python finds its modules is meant for other programs (installer/variables.py has the same list).
unset PYTHONHOME PYTHONPATH PYTHONSAFEPATH PYTHONPLATLIBDIR PYTHONEXECUTABLE PYTHONOPTIMIZE

# A finished environment starts by itself; one_click.py goes back to the Python beneath it when there is work to do.
# WEBUI_NEVER_INSTALL=yes (containers): what is there is started or nothing is, and nothing is fetched.
python=$here/installer_files/env/bin/python
if ! "$python" -I -c '' >/dev/null 2>&1; then
    case ${WEBUI_NEVER_INSTALL:-no} in
    [yY] | [yY][eE][sS] | 1 | [tT] | [tT][rR][uU][eE] | [oO][nN])
        fail "There is no environment here that runs ($here/installer_files/env), and WEBUI_NEVER_INSTALL forbids to make one. Unset it and start once, where this folder can be written to."
        ;;
    esac
    find_python || fetch_python
fi
exec "$python" "$here/one_click.py" "$@"
