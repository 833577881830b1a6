#!/bin/sh
# Starts the web UI. The first start installs everything into installer_files/ next to this file; nothing outside
# of it changes except the package client's own cache. Deleting installer_files/ and starting again repairs it.
#
# This script only finds a Python and runs one_click.py with it. If the machine has none, a private one is downloaded:
# python-build-standalone, pinned by version and SHA-256. PYTHON_MIRROR=URL replaces the address below, for machines
# that can only reach a mirror; the files there must have the same names.
# start_macos.sh runs this file. Plain POSIX shell, so that dash and busybox can run it too.
set -u

release=20261110
version=3.12.16
mirror=${PYTHON_MIRROR:-https://github.com/astral-sh/python-build-standalone/releases/download}

fail() {
    printf '\n%s\n' "$*" >&2
    exit 1
}

self=$(readlink -f -- "$0" 2>/dev/null) || self=$0
here=$(CDPATH='' cd -- "$(dirname -- "$self")" && pwd -P) || fail "The folder of $0 cannot be opened. Check its permissions."
cd -- "$here" || exit 1

# Paths that do not work with Python environments (each was tested); spaces, accents, quotes and so on are fine.
# one_click.py checks the same; here it is checked before anything is downloaded.
case $here in
*:*) fail "The folder path contains a colon, which does not work with Python environments. Move the folder to another path, then start again: $here" ;;
*[[:cntrl:]]*) fail "The folder path contains a tab, a line break or another control character. Move the folder to another path, then start again: $here" ;;
esac
for part in one_click.py installer/__init__.py; do
    [ -f "$part" ] || fail "$part is missing in $here. Download the complete project (git clone), then start again."
done

# Debian's python3 without python3-venv has no ensurepip; such a Python does not count.
usable() {
    "$1" -I -c 'import sys, ssl, ctypes, venv, ensurepip
sys.exit(not ((3, 10) <= sys.version_info[:2] <= (3, 13) and sys.maxsize > 2**32))' >/dev/null 2>&1
}

# 3.12 and 3.11 first: prebuilt GPU packages exist for them most often.
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
    *) fail "No prebuilt Python is available for this machine ($(uname -s) $(uname -m)). Install Python 3.10 to 3.13 with venv, then start again." ;;
    esac
    command -v tar >/dev/null 2>&1 || fail "No Python 3.10 to 3.13 is installed, and tar is missing to unpack one. Install either, then start again."
    command -v curl >/dev/null 2>&1 || command -v wget >/dev/null 2>&1 ||
        fail "No Python 3.10 to 3.13 is installed, and neither curl nor wget is available to download one. Install one of the three, then start again."

    echo "No Python 3.10 to 3.13 with venv is installed: downloading a private Python $version (35 MB) into installer_files/ ..."
    mkdir -p installer_files 2>/dev/null || fail "This folder is not writable: $here. Change its owner or permissions, or move it, then start again."
    unpack=installer_files/python.part
    rm -rf "$unpack"
    # Clean up if this ends early.
    trap 'rm -rf "$unpack"; rmdir installer_files 2>/dev/null' EXIT
    trap 'exit 130' INT TERM HUP
    mkdir "$unpack" || fail "This folder is not writable: $here/installer_files. Change its owner or permissions, then start again."
    download "$mirror/$release/cpython-$version%2B$release-$target-install_only_stripped.tar.gz" "$unpack/python.tar.gz" ||
        fail "Python could not be downloaded. Check the network connection (and HTTPS_PROXY, if you need a proxy) and the disk space, then start again. Or install Python 3.10 to 3.13 yourself."
    [ "$(sha256_of "$unpack/python.tar.gz")" = "$sha256" ] ||
        fail "The downloaded Python has the wrong checksum (SHA-256) and was deleted. Start again; if it happens again, something in your network changes downloads."
    (cd "$unpack" && tar -xzf python.tar.gz) || fail "The downloaded Python could not be unpacked. Check the disk space, then start again."
    usable "$unpack/python/bin/python3" ||
        fail "The downloaded Python does not run on this system. Install Python 3.10 to 3.13 with venv from your package manager, then start again."
    rm -rf installer_files/python
    mv "$unpack/python" installer_files/python || fail "installer_files/python could not be written. Check its permissions, then start again."
    rm -rf "$unpack"
    trap - EXIT INT TERM HUP
    python=$here/installer_files/python/bin/python3
}

# Variables that change where Python finds its modules are meant for other programs (same list as in
# installer/environment/variables.py).
unset PYTHONHOME PYTHONPATH PYTHONSAFEPATH PYTHONPLATLIBDIR PYTHONEXECUTABLE PYTHONOPTIMIZE

# A finished environment is started directly; one_click.py switches to the system's Python if something must be installed.
# WEBUI_NEVER_INSTALL=yes (containers): start what is installed, and download nothing.
python=$here/installer_files/env/bin/python
if ! "$python" -I -c '' >/dev/null 2>&1; then
    case ${WEBUI_NEVER_INSTALL:-no} in
    [yY] | [yY][eE][sS] | 1 | [tT] | [tT][rR][uU][eE] | [oO][nN])
        fail "No working environment was found ($here/installer_files/env), and WEBUI_NEVER_INSTALL is set. Unset it and start once with write access to this folder."
        ;;
    esac
    find_python || fetch_python
fi
exec "$python" "$here/one_click.py" "$@"
