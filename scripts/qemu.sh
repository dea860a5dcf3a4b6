#!/bin/sh
# Build a newer emulator that can record into build/qemu: QEMU 10.0 with plugins, from the source of Debian 13.
# For those who want it; set-up does with that of Debian 12 (scripts/fetch-qemu.sh).
#
#     scripts/qemu.sh
#
# Needs no root, but compilers and libglib2.0-dev. Does nothing the second time; goes on where it was interrupted.
set -eu
cd "$(dirname "$0")/.."
root=$(pwd -P)
work=$root/build/qemu-build
release=trixie
series=10.0

say() { echo "qemu: $*"; }
fail() {
    echo "qemu: $*" >&2
    exit 1
}
. scripts/debian.sh
# run a command with its output in the log, which is shown only when the command fails
quietly() {
    "$@" >>"$work/log" 2>&1 </dev/null && return
    tail -n 30 "$work/log" >&2
    fail "failed: $* (the whole log: $work/log)"
}

mkdir -p build
exec 7>build/.qemu.lock
flock 7
runs() { "$1"/qemu-x86_64 --version >/dev/null 2>&1 && "$1"/qemu-i386 --version >/dev/null 2>&1; }
if grep -qs '^built' build/qemu/origin && runs build/qemu/bin; then
    rm -rf "$work"
    exit 0
fi

case $root in
*[[:space:]:]*) fail "QEMU is not built in a folder with blanks or colons in its path: move this tree" ;;
esac
packages=""
need() { # need COMMAND PACKAGE
    command -v "$1" >/dev/null || packages="$packages $2"
}
need cc gcc
need ninja ninja-build
need pkg-config pkgconf
need dpkg-source dpkg-dev
need patch patch
need xz xz-utils
python3 -c 'import venv, ensurepip' 2>/dev/null || packages="$packages python3-venv"
pkg-config --exists glib-2.0 2>/dev/null || packages="$packages libglib2.0-dev"
[ -z "$packages" ] || fail "these packages are missing: apt-get install --no-install-recommends$packages"

mkdir -p "$work"
if [ ! -e "$work/source/.unpacked" ]; then
    rm -rf "$work/source" "$work/download" "$work/object"
    mkdir "$work/download"
    cd "$work/download"
    debian_begin "$work/apt" $release deb-src
    say "downloading the source (40 MB)"
    debian_download source --download-only qemu
    echo "$(debian_megabytes) MB were downloaded" >"$work/downloaded"
    say "unpacking it"
    # apt has checked the files by the list, which is signed
    quietly dpkg-source --no-check --extract qemu_*.dsc "$work/source"
    cd "$root"
    case $(cat "$work/source/VERSION") in
    $series.*) ;;
    *) fail "Debian $release has QEMU $(cat "$work/source/VERSION"), not $series" ;;
    esac
    touch "$work/source/.unpacked"
fi

# Debian 12's meson is too old, and the one in QEMU's own source is not in Debian's
if [ ! -x "$work/python/bin/meson" ]; then
    rm -rf "$work/python"
    quietly python3 -m venv "$work/python"
    quietly "$work/python/bin/pip" --disable-pip-version-check install --progress-bar off 'meson>=1.5,<2'
fi

if [ ! -e "$work/object/build.ninja" ]; then
    say "configuring"
    rm -rf "$work/object"
    mkdir "$work/object"
    cd "$work/object"
    # the recorder looks functions of the emulator up by name: they are exported only when the linker is told to
    quietly ../source/configure --python="$work/python/bin/python" \
        --target-list=x86_64-linux-user,i386-linux-user --without-default-features \
        --enable-linux-user --enable-plugins --disable-system --disable-tools --disable-docs \
        --disable-bsd-user --disable-download --disable-install-blobs --disable-debug-info \
        --extra-ldflags=-Wl,--export-dynamic
    cd "$root"
fi
say "compiling (some 3 minutes of one core)"
quietly ninja -C "$work/object" qemu-x86_64 qemu-i386

rm -rf "$work/new"
mkdir -p "$work/new/bin"
for name in qemu-x86_64 qemu-i386; do
    quietly strip -o "$work/new/bin/$name" "$work/object/$name"
done
version=$(cat "$work/source/VERSION")
"$work/new/bin/qemu-x86_64" --version >/dev/null || fail "the emulator that was built does not run"
echo "built from Debian $release: qemu $version" >"$work/new/origin"
emulator_place "$work/new"
say "build/qemu has QEMU $version$(sed 's/\(.*\)/ (\1)/' "$work/downloaded")"
rm -rf "$work"
