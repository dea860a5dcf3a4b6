#!/bin/sh
# Install what a part of this project needs on Debian 12 or 13, and the package itself, into .venv.
#
#     [WITH=network] [WITHOUT=network] [TORCH_INDEX=…] scripts/setup.sh run|demo|test|bench|detection|lint|docs
#
# Asks for nothing, may be run again at any time, and does nothing the second time.
# Networks need torch, which is large: `run` leaves it out unless WITH=network, `demo` takes it unless
# WITHOUT=network, the others need it. TORCH_INDEX says where torch is to come from: the address of an index, as
# pip's --index-url takes it, or a folder of wheels; all else comes from where it always does.
# Set PYTHON to choose the interpreter. pip's own configuration is honoured.
set -eu
cd "$(dirname "$0")/.."
root=$(pwd -P)
part=${1:-run}
log=$root/build/setup.log

# what the program needs to be built (libipt decodes)
packages="g++ cmake ninja-build libipt-dev"
# hostile documents are run in its sandbox
packages="$packages bubblewrap"
# the extra of pyproject.toml; [test] contains [network], which contains what the package always needs
extra=""
case $part in
run) [ "${WITH:-}" != network ] || extra="[network]" ;;
# what the demo's documents are made with, and the program it watches
demo)
    packages="$packages ghostscript groff enscript qpdf poppler-utils"
    [ "${WITHOUT:-}" = network ] || extra="[network]"
    ;;
# the programs that tests record, and compilers for those that they write themselves
test | lint)
    packages="$packages ghostscript groff enscript qpdf poppler-utils musl-tools gcc-multilib"
    # the page of a report is looked at in a browser
    packages="$packages chromium chromium-driver"
    # says which system calls a program makes
    packages="$packages strace"
    # counts of the rote learner are shared through it
    packages="$packages redis-server"
    # checks the scripts
    packages="$packages shellcheck"
    extra="[test]"
    ;;
# the demo's documents are recorded for the comparison of learners
bench)
    packages="$packages ghostscript groff enscript qpdf poppler-utils"
    extra="[network]"
    ;;
# programs that are attacked, 32-bit ones too, and what says which system calls they make
detection) packages="$packages ghostscript groff enscript qpdf poppler-utils gcc-multilib strace" ;;
# pages and reference; what the program itself needs is imported
docs) extra="[docs]" ;;
*)
    echo "usage: $0 run|demo|test|bench|detection|lint|docs" >&2
    exit 2
    ;;
esac

say() { echo "setup: $*"; }
fail() {
    echo "setup: $*" >&2
    exit 1
}
# run a command with its output in the log, which is shown only when the command fails
quietly() {
    echo "+ $*" >>"$log"
    "$@" >>"$log" 2>&1 </dev/null && return
    tail -n 40 "$log" >&2
    fail "failed: $* (the whole log: $log)"
}

case "${WITH:-}" in '' | network) ;; *) fail "WITH=$WITH: only the network can be taken along: WITH=network" ;; esac
case "$part ${WITHOUT:-}" in
*' ' | 'run network' | 'demo network') ;;
*' network') fail "WITHOUT=network is for make demo: the others need all, and make setup leaves it out" ;;
*) fail "WITHOUT=$WITHOUT: only the network can be left out: WITHOUT=network" ;;
esac
[ -z "${WITH:-}" ] || [ -z "${WITHOUT:-}" ] || fail "WITH=network and WITHOUT=network: give one of them"

mkdir -p build
exec 9>build/.setup.lock
flock 9
: >"$log"

# --- Debian packages ---------------------------------------------------------------------------

installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

as_root() {
    if [ "$(id -u)" = 0 ]; then
        env DEBIAN_FRONTEND=noninteractive "$@"
    else
        sudo env DEBIAN_FRONTEND=noninteractive "$@"
    fi
}

# apt-get update, once, and only when apt cannot do without
update() {
    [ -z "${updated:-}" ] || return 0
    say "fetching the lists of Debian packages"
    quietly as_root apt-get update
    updated=1
}

apt_install() {
    if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then
        fail "neither root nor sudo: let an administrator run: apt-get install --no-install-recommends $*"
    fi
    for package; do
        if ! apt-cache policy "$package" 2>/dev/null | grep -q 'Candidate: [^(]'; then
            update
        fi
    done
    say "installing Debian packages: $*"
    # slim images drop the macros of groff as documentation: ask for them
    # shellcheck disable=SC2086
    set -- as_root apt-get install -y --no-install-recommends \
        -o Dpkg::Options::=--path-include='/usr/share/groff/*' ${reinstall:-} "$@"
    echo "+ $*" >>"$log"
    "$@" >>"$log" 2>&1 </dev/null && return
    # the lists may be older than the archive
    update
    quietly "$@"
}

# QEMU runs the recorder: Debian 12's does; that of later releases has no plugins (see the end)
if grep -qs '^VERSION_CODENAME=bookworm' /etc/os-release && { [ "$(id -u)" = 0 ] || command -v sudo >/dev/null; }; then
    packages="$packages qemu-user"
fi

missing=""
if command -v dpkg-query >/dev/null && command -v apt-get >/dev/null; then
    for package in $packages; do
        installed "$package" || missing="$missing $package"
    done
    # shellcheck disable=SC2086
    [ -z "$missing" ] || apt_install $missing
    case $packages in
    *groff*)
        macros=/usr/share/groff/current/tmac
        if [ ! -e $macros/ms.tmac ] || [ ! -e $macros/troffrc ]; then
            reinstall=--reinstall apt_install groff groff-base
        fi
        ;;
    esac
else
    say "this is no Debian: its packages must be here by other means: $packages"
fi

# --- a virtual environment ---------------------------------------------------------------------

# new enough, able to make a virtual environment, and with headers to build an extension
usable() {
    command -v "$1" >/dev/null && "$1" - <<'PYTHON' 2>/dev/null
import os, sys, sysconfig, venv, ensurepip
header = os.path.join(sysconfig.get_path("include"), "Python.h")
sys.exit(not (sys.version_info >= (3, 11) and os.path.exists(header)))
PYTHON
}

choose_python() {
    for python in ${PYTHON:-} python3 python3.11 python3.12 python3.13 /usr/bin/python3; do
        if usable "$python"; then
            return
        fi
    done
    [ -z "${PYTHON:-}" ] || fail "PYTHON=$PYTHON is not Python 3.11 or newer with venv and its headers"
    command -v apt-get >/dev/null || fail "no Python 3.11 or newer with venv and its headers is here"
    apt_install python3 python3-venv python3-dev
    python=/usr/bin/python3
    usable $python || fail "this Debian's Python is older than 3.11: set PYTHON to a newer one"
}

# a copied or moved tree has an environment whose programs run the other tree
if ! grep -qsF "$root/.venv/" .venv/bin/pip || ! usable .venv/bin/python; then
    choose_python
    say "making a virtual environment with $("$python" --version)"
    rm -rf .venv
    quietly "$python" -m venv .venv
fi

# --- this package, with its native parts compiled ----------------------------------------------

stamp() {
    {
        echo "$root" "$1"
        .venv/bin/python --version
        cat pyproject.toml CMakeLists.txt constraints.txt
        find native -type f ! -name '.*' | LC_ALL=C sort | xargs -r sha256sum
    } | sha256sum
}

done_before() {
    [ -x .venv/bin/barnum ] && [ -f ".venv/.installed$1" ] && [ "$(cat ".venv/.installed$1")" = "$(stamp "$1")" ]
}

# whoever has more than is asked for has that too
done_with_more() {
    case $1 in
    '') done_before '' || done_before '[network]' || done_before '[test]' ;;
    '[network]') done_before '[network]' || done_before '[test]' ;;
    *) done_before "$1" || done_before '[test]' ;;
    esac
}

has_torch() {
    .venv/bin/python -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("torch") is None)'
}

pip() { quietly .venv/bin/python -m pip --disable-pip-version-check "$@"; }

# torch alone: what it depends on comes with the package
torch_from() {
    from=$1
    if [ -d "$from" ]; then
        from=file://$(cd "$from" && pwd -P | sed 's/%/%25/g; s/ /%20/g')
    fi
    say "installing torch from $(echo "$from" | sed 's|//[^/@]*@|//|')"
    (
        # an index, or a page or folder of wheels: pip finds out which, and looks nowhere else
        export PIP_INDEX_URL="$from" PIP_EXTRA_INDEX_URL="$from" PIP_FIND_LINKS="$from"
        pip install --progress-bar off -c constraints.txt --no-deps torch
    )
}

if ! done_with_more "$extra"; then
    now=$(stamp "$extra")
    say "installing Python packages"
    pip install --progress-bar off -c constraints.txt scikit-build-core nanobind
    if [ -z "$extra" ] || [ "$extra" = "[docs]" ]; then
        :
    elif ! has_torch; then
        say "networks need torch: about 200 MB where pip finds the build for CPUs, else 2.9 GB with libraries for"
        say "GPUs (5.3 GB on the disk); TORCH_INDEX=https://download.pytorch.org/whl/cpu names an index of the former"
        [ "$part" != demo ] || say "make demo WITHOUT=network does without, and comes to its verdicts by rote"
        if [ -n "${TORCH_INDEX:-}" ]; then torch_from "$TORCH_INDEX"; fi
    elif [ -n "${TORCH_INDEX:-}" ]; then
        say "torch is here already: TORCH_INDEX is not looked at"
    fi
    # the build shares its lock with scripts/build.sh
    exec 8>build/.lock
    flock 8
    say "compiling the native parts and installing barnum"
    pip install --progress-bar off -c constraints.txt --no-build-isolation --editable ".$extra"
    exec 8>&-
    quietly .venv/bin/barnum --version
    echo "$now" >".venv/.installed$extra"
fi

# --- an emulator that can record ---------------------------------------------------------------

# says why none fits, of those for 64-bit and for 32-bit programs
engine_fits() {
    .venv/bin/python - <<'PYTHON' 2>&1
import sys
from barnum.errors import EngineError
from barnum.recording import find_engine
try:
    engine = find_engine()
    if 32 not in engine.qemu:
        sys.exit(f"{engine.qemu[64]} has no qemu-i386 beside it that fits")
except EngineError as error:
    sys.exit(str(error).rpartition(": ")[0])
PYTHON
}
# what was asked for needs no emulator: the rest is done
unless_needed() {
    case $part in
    run | lint | docs) say "$1" ;;
    *) fail "$1" ;;
    esac
}
own="build one with scripts/qemu.sh, or set BARNUM_QEMU to a QEMU 6.0 to 10.2 with plugins"

if ! why=$(engine_fits); then
    say "no emulator here can record: $why"
    if [ -n "${BARNUM_QEMU:-}" ]; then
        unless_needed "nothing can be recorded before BARNUM_QEMU names another, or is unset"
    elif ! command -v apt-get >/dev/null; then
        unless_needed "nothing can be recorded without one: set BARNUM_QEMU to a QEMU 6.0 to 10.2 with plugins"
    else
        say "fetching that of Debian 12 into build/qemu"
        if ! PYTHON=.venv/bin/python sh scripts/fetch-qemu.sh; then
            unless_needed "nothing can be recorded without one: $own"
        elif ! why=$(engine_fits); then
            unless_needed "nothing can be recorded: $why: $own"
        fi
    fi
fi
