#!/bin/sh
# Fetch an emulator that can record into build/qemu: QEMU 7.2 of Debian 12, with the libraries that this system lacks.
# For systems whose own QEMU has no plugins, such as Debian 13.
#
#     scripts/fetch-qemu.sh
#
# Needs no root and changes nothing outside this tree. Does nothing the second time; remove build/qemu to fetch anew.
# Set PYTHON to a Python that has lief, where there is no .venv.
set -eu
cd "$(dirname "$0")/.."
root=$(pwd -P)
work=$root/build/qemu-fetch
release=bookworm

say() { echo "fetch-qemu: $*"; }
fail() {
    echo "fetch-qemu: $*" >&2
    exit 1
}
. scripts/debian.sh

mkdir -p build
exec 7>build/.qemu.lock
flock 7
runs() { "$1"/qemu-x86_64 --version >/dev/null 2>&1 && "$1"/qemu-i386 --version >/dev/null 2>&1; }
if grep -qs '^fetched' build/qemu/origin && runs build/qemu/bin; then
    rm -rf "$work"
    exit 0
fi

for python in ${PYTHON:-} .venv/bin/python python3; do
    ! "$python" -c 'import lief' 2>/dev/null || break
    python=
done
[ -n "$python" ] || fail "no Python with lief is here: run make setup, or set PYTHON to one that has it"

# which package of that release has a library of the emulator
package_of() {
    case $1 in
    libcapstone.so.4) echo libcapstone4 ;;
    libnuma.so.1) echo libnuma1 ;;
    liburing.so.2) echo liburing2 ;;
    libglib-2.0.so.0 | libgmodule-2.0.so.0) echo libglib2.0-0 ;;
    libpcre2-8.so.0) echo libpcre2-8-0 ;;
    libgnutls.so.30) echo libgnutls30 ;;
    libp11-kit.so.0) echo libp11-kit0 ;;
    libffi.so.8) echo libffi8 ;;
    libidn2.so.0) echo libidn2-0 ;;
    libunistring.so.2) echo libunistring2 ;;
    libtasn1.so.6) echo libtasn1-6 ;;
    libnettle.so.8) echo libnettle8 ;;
    libhogweed.so.6) echo libhogweed6 ;;
    libgmp.so.10) echo libgmp10 ;;
    libz.so.1) echo zlib1g ;;
    libgcc_s.so.1) echo libgcc-s1 ;;
    *) fail "this system's $1 is missing or too old for programs of Debian 12: build an emulator (scripts/qemu.sh)" ;;
    esac
}

# libraries that the emulators need and do not find, or find too old
lacking() {
    ldd "$work"/new/bin/* 2>&1 | sed -n \
        -e 's/^[[:space:]]*\([^ ]*\) => not found.*/\1/p' \
        -e "s/^[^:]*: \(.*\): version \`[^ ]*' not found.*/\1/p" | sed 's,.*/,,' | sort -u
}

# unpack PACKAGE: download it and unpack it into the work folder
unpack() {
    debian_download download "$1"
    dpkg-deb --extract "$1"_*.deb unpacked
}

rm -rf "$work"
mkdir -p "$work/new/bin" "$work/new/lib"
cd "$work"
debian_begin "$work/apt" $release deb
say "downloading qemu-user (12 MB) and what it needs"
unpack qemu-user
for name in qemu-x86_64 qemu-i386; do
    # its libraries are found beside it: a variable such as LD_LIBRARY_PATH would be the recorded program's, too
    cp "unpacked/usr/bin/$name" new/bin/
    (cd "$root" && "$python" - "$work/new/bin/$name") <<'PYTHON'
import sys, lief
emulator = lief.ELF.parse(sys.argv[1])
emulator.add(lief.ELF.DynamicEntryRpath("$ORIGIN/../lib"))
emulator.write(sys.argv[1])
PYTHON
done
before=
while libraries=$(lacking) && [ -n "$libraries" ]; do
    [ "$libraries" != "$before" ] || fail "libraries that do not fit this system: $libraries"
    before=$libraries
    for library in $libraries; do
        package=$(package_of "$library")
        [ -e "$(echo "$package"_*.deb)" ] || unpack "$package"
        for folder in usr/lib lib; do
            [ ! -e "unpacked/$folder/x86_64-linux-gnu/$library" ] ||
                cp -L "unpacked/$folder/x86_64-linux-gnu/$library" new/lib/
        done
    done
done
version=$(new/bin/qemu-x86_64 --version 2>&1) || fail "the emulator does not run on this system: $version"
echo "fetched from Debian $release: $(printf '%s ' *.deb)" >new/origin
megabytes=$(debian_megabytes)
cd "$root"
emulator_place "$work/new"
rm -rf "$work"
say "build/qemu has QEMU $(echo "$version" | sed -n 's/.*version \([0-9.]*\).*/\1/p') ($megabytes MB were downloaded)"
