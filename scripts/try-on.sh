#!/bin/sh
# Try what is committed here on a fresh minimal Debian: set up, tested and demonstrated in a system of its own.
#
#     scripts/try-on.sh bookworm|trixie [target…]      default: setup test demo
#
# A target is what make gets; it may be several words: "test ARGS='-x tests/project/test_files.py'". Needs root,
# debootstrap and git, and some 10 GB. Writes in build/try-on alone (TRY_ON_CACHE: elsewhere), where downloads
# and the bare system are kept for the next time, and the system that was tried for a look into it. Mounts are
# private to the try and end with it. In it nothing of this machine can be reached but copies, and read-only
# the test data (BARNUM_TEST_DATA, default ../shared/data) and the folders that pip's configuration names.
# DEBIAN_MIRROR: a server of Debian's packages, where this system's own is not to be taken.
# TRY_ON_AGAIN=1: go on in the system of the last try, with what is new.
set -eu
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

say() { echo "try-on: $*"; }
fail() {
    echo "try-on: $*" >&2
    exit 1
}

# --- in the system that is tried ---------------------------------------------------------------

# "net" and "local" with a number of bytes, line by line: what apt and pip say in logs that they took, from the
# net also where a cache had it, and wheels from folders
downloaded() {
    cat "$@" | awk '
        function bytes(number, unit) {
            gsub(/[,()]/, "", number)
            return number * (unit ~ /^k/ ? 1e3 : unit ~ /^M/ ? 1e6 : unit ~ /^G/ ? 1e9 : 1)
        }
        /^\+ / { counted = 0 }
        # apt: all that an installation needs; lists and single packages have no such line
        /^Need to get / { sub(/^Need to get ([^\/]*\/)?/, ""); net += bytes($1, $2); counted = 1 }
        /^Fetched / && !counted { net += bytes($2, $3) }
        # pip
        /^ *(Downloading|Using cached) .*\(.*\)$/ { net += bytes($(NF - 1), $NF) }
        /^ *Processing \// { print "file " $2 }
        # scripts/fetch-qemu.sh
        /\([0-9]+ MB were downloaded\)$/ { sub(/.*\(/, ""); net += bytes($1, $2) }
        END { printf "net %.0f\n", net }
    ' | while read -r kind what; do
        case $kind in
        net) echo "net $what" ;;
        file) [ ! -f "$what" ] || echo "local $(stat -c %s "$what")" ;;
        esac
    done
}

sum() { awk -v kind="$1" '$1 == kind { sum += $2 } END { printf "%.0f", sum }'; }

versions() {
    echo "Python: $(.venv/bin/python --version 2>&1 | cut -d' ' -f2)"
    echo "g++: $(g++ -dumpfullversion 2>&1)"
    echo "libipt: $(dpkg-query -W -f '${Version}' libipt-dev 2>&1)"
    echo "QEMU: $(.venv/bin/python -c 'if True:
        from barnum.recording.engine import find_engine
        engine = find_engine()
        print(engine.version, engine.qemu[64])' 2>&1 | tail -n 1)"
    echo "torch: $(.venv/bin/python -c 'import torch; print(torch.__version__)' 2>&1 | tail -n 1)"
}

steps() {
    umount -l /mnt
    . /try-on/environment
    cd /root/barnum
    number=0
    for target; do
        number=$((number + 1))
        log=/try-on/$number.log
        say "make $target"
        begin=$(date +%s)
        result=ok
        eval "make $target" >"$log" 2>&1 </dev/null || result=failed
        seconds=$(($(date +%s) - begin))
        cp build/setup.log "$log.setup" 2>/dev/null || : >"$log.setup"
        downloaded "$log" "$log.setup" >/try-on/downloaded
        rm -f build/setup.log
        echo "$target|$result|$seconds|$(sum net </try-on/downloaded)|$(sum local </try-on/downloaded)" >>/try-on/steps
        [ "$result" = ok ] || tail -n 60 "$log"
        [ "$result $target" != "failed setup" ] || break
    done
    versions >/try-on/versions
}

# --- between: mounts, in a name space of their own ---------------------------------------------

read_only() {
    mkdir -p ".$2"
    mount --bind "$1" ".$2"
    mount -o remount,bind,ro ".$2"
}

# the system in "$1" becomes this process's whole file system
enter() {
    root=$1
    shift
    mount --bind "$root" "$root"
    cd "$root"
    mount -t proc proc proc
    mount -t sysfs -o ro sysfs sys
    mount -t tmpfs -o mode=755 tmpfs run
    # devices of its own, so that nothing there can be done to those of this machine
    mount -t tmpfs -o mode=755 tmpfs dev
    for device in null zero full random urandom tty; do
        : >dev/$device
        mount --bind /dev/$device dev/$device
    done
    mkdir dev/pts dev/shm
    mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts dev/pts
    mount -t tmpfs -o mode=1777 tmpfs dev/shm
    ln -s pts/ptmx dev/ptmx
    ln -s /proc/self/fd dev/fd
    for number in 0:stdin 1:stdout 2:stderr; do ln -s "/proc/self/fd/${number%:*}" "dev/${number#*:}"; done
    # what was downloaded before
    mkdir -p root/.cache/pip
    mount --bind "$cache/pip" root/.cache/pip
    mount --bind "$cache/apt-$release" var/cache/apt/archives
    while IFS='|' read -r from to; do read_only "$from" "$to"; done <try-on/folders
    pivot_root . mnt
    exec chroot . /bin/sh /try-on/try-on.sh --steps "$@"
}

case ${1:-} in
--steps)
    shift
    steps "$@"
    exit 0
    ;;
--downloaded)
    shift
    downloaded "$@"
    exit 0
    ;;
--enter)
    cache=$2
    release=$3
    shift 3
    enter "$@"
    ;;
esac

# --- on this machine ---------------------------------------------------------------------------

# read to its end before it is done: this file may change in the hour that it takes
{
release=${1:-}
case $release in
bookworm | trixie) shift ;;
*)
    echo "usage: $0 bookworm|trixie [target…]" >&2
    exit 2
    ;;
esac
[ $# != 0 ] || set -- setup test demo

cd "$(dirname "$0")/.."
tree=$(pwd -P)
data=$(realpath -m "${BARNUM_TEST_DATA:-$tree/../shared/data}")
. scripts/debian.sh
mirror=$(debian_mirrors | head -n 1)
[ -n "$mirror" ] ||
    fail "apt knows no server of Debian here: set DEBIAN_MIRROR to one (https://www.debian.org/mirror/list)"
security=$(apt-get indextargets --no-release-info --format '$(SITE)' | grep -m 1 -E '/debian-security/?$' || true)
[ -n "$security" ] || security=$(dirname "$mirror")/debian-security
[ "$(id -u)" = 0 ] || fail "only root may change the root folder and mount: run it as root, or with sudo"
for tool in debootstrap git unshare pivot_root; do
    command -v $tool >/dev/null || fail "$tool is missing: apt-get install debootstrap git util-linux"
done
# shellcheck disable=SC2016
unshare --mount --pid --fork sh -c 'mount -t tmpfs none /mnt && mount --bind /mnt /mnt' 2>/dev/null ||
    fail "nothing may be mounted here (a container?): take a machine, real or virtual, where root may mount"
mkdir -p "${TRY_ON_CACHE:-build/try-on}"
cache=$(cd "${TRY_ON_CACHE:-build/try-on}" && pwd -P)
mkdir -p "$cache/pip" "$cache/apt-$release/partial"
exec 9>"$cache/$release.lock"
flock -n 9 || fail "$release is being tried in $cache already"
root=$cache/$release
base=$cache/$release.bare

# run a command with mounts and processes of its own: all of them end with it, however it ends
child=
apart() {
    unshare --mount --pid --fork --kill-child "$@" &
    child=$!
    wait $child
}
interrupted() {
    trap - INT TERM HUP
    [ -z "$child" ] || kill -KILL "$child" 2>/dev/null || true
    wait
    fail "interrupted"
}
trap interrupted INT TERM HUP

if [ ! -d "$base" ]; then
    say "making a bare $release with debootstrap"
    rm -rf --one-file-system "$base.part"
    begin=$(date +%s)
    apart debootstrap --variant=minbase --include=git,make,python3 "$release" "$base.part" "$mirror" \
        >"$cache/$release.debootstrap.log" 2>&1 || {
        tail -n 20 "$cache/$release.debootstrap.log" >&2
        fail "debootstrap failed (its log: $cache/$release.debootstrap.log)"
    }
    mkdir "$base.part/try-on"
    bytes=$(find "$base.part/var/cache/apt/archives" "$base.part/var/lib/apt/lists" -type f -printf '%s\n' |
        awk '{ sum += $1 } END { printf "%.0f", sum }')
    echo "debootstrap|ok|$(($(date +%s) - begin))|$bytes|0" >"$base.part/try-on/bare"
    rm -f "$base.part"/var/cache/apt/archives/*.deb
    {
        echo "deb $mirror $release main"
        echo "deb $mirror $release-updates main"
        echo "deb $security $release-security main"
    } >"$base.part/etc/apt/sources.list"
    mv "$base.part" "$base"
fi

[ -z "$(git status --porcelain --untracked-files=no)" ] || say "changes that are not committed are not tried"
if [ -z "${TRY_ON_AGAIN:-}" ] || [ ! -d "$root/root/barnum" ]; then
    rm -rf --one-file-system "$root"
    cp -a "$base" "$root"
    git clone --quiet --no-hardlinks "$tree" "$root/root/barnum"
else
    git -C "$root/root/barnum" fetch --quiet "$tree" HEAD
    git -C "$root/root/barnum" reset --quiet --hard FETCH_HEAD
fi
say "$(git -C "$root/root/barnum" log -1 --format='%h %s')"
rm -f "$root"/try-on/*.log* "$root/try-on/steps"
cp scripts/try-on.sh "$root/try-on/"

# as this machine reaches the archives, the system does: resolver, proxies, authorities, pip's settings
cp /etc/resolv.conf /etc/hosts "$root/etc/"
cp -a /usr/local/share/ca-certificates "$root/usr/local/share/" 2>/dev/null || true
! command -v apt-config >/dev/null ||
    apt-config dump Acquire | grep -E '^Acquire::(https?|ftp|socks|Check-|Retries|ForceIP)' \
        >"$root/etc/apt/apt.conf.d/90try-on" || true
user=${HOME:-/root}
settings=
for file in /etc/pip.conf /etc/xdg/pip/pip.conf "$user/.pip/pip.conf" \
    "${XDG_CONFIG_HOME:-$user/.config}/pip/pip.conf" "${PIP_CONFIG_FILE:-}"; do
    [ -f "$file" ] || continue
    to=$file
    case $file in
    "${PIP_CONFIG_FILE:-}") ;;
    "$user"/.pip/*) to=/root/.pip/pip.conf ;;
    "${XDG_CONFIG_HOME:-$user/.config}"/*) to=/root/.config/pip/pip.conf ;;
    esac
    mkdir -p "$root${to%/*}"
    cp "$file" "$root$to"
    settings="$settings $file"
done
: >"$root/try-on/folders"
if [ -d "$data" ]; then
    echo "$data|/root/shared/data" >"$root/try-on/folders"
else
    say "no test data at $data (BARNUM_TEST_DATA): tests that need them will be skipped"
fi
# files and folders that the settings name are there under the same names; of an index also what lies beside it,
# where its pages point
# shellcheck disable=SC2086
{
    cat /dev/null $settings "$root/etc/apt/apt.conf.d/90try-on"
    env | grep '^PIP_' | grep -v '^PIP_CACHE_DIR=' || true
} | tr -s ' \t=",;' '\n' | sort -u | while read -r name; do
    case $name in
    file:///*) name=$(dirname "${name#file://}") ;;
    /[!/]*) ;;
    *) continue ;;
    esac
    if [ -d "$name" ] && [ "$name" != / ]; then
        echo "$name|$name" >>"$root/try-on/folders"
    elif [ -f "$name" ]; then
        mkdir -p "$root${name%/*}"
        cp "$name" "$root$name"
    fi
done
{
    export -p | grep -E '^export (PIP_[A-Z_]*|[a-z]*_proxy|[A-Z]*_PROXY)=' | grep -v '^export PIP_CACHE_DIR=' || true
    echo "export HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    echo "export BARNUM_TEST_DATA=/root/shared/data"
} >"$root/try-on/environment"

apart env -i PATH="$PATH" sh "$root/try-on/try-on.sh" --enter "$cache" "$release" "$root" "$@" ||
    fail "the try broke off (logs: $root/try-on)"

{
    echo
    echo "$release, $(git -C "$root/root/barnum" log -1 --format=%h), $(nproc) cores:" \
        "$(tr '\n' ',' <"$root/try-on/versions" | sed 's/,$//; s/,/, /g')"
    echo
    printf '%-28s %-7s %8s %14s %14s\n' step result seconds 'downloads, MB' 'local, MB'
    cat "$root/try-on/bare" "$root/try-on/steps" | while IFS='|' read -r step result seconds net from; do
        printf '%-28.28s %-7s %8d %14.1f %14.1f\n' "$step" "$result" "$seconds" \
            "$(echo "$net" | awk '{ print $1 / 1e6 }')" "$(echo "$from" | awk '{ print $1 / 1e6 }')"
    done
    echo
    echo "downloads: what apt and pip say they needed from the net, also where a cache had it already;"
    echo "local: wheels from folders that pip's configuration names"
    grep -hE '^(SKIPPED|FAILED|ERROR) |^=+ .*(passed|failed|error).* =+$' "$root"/try-on/*.log || true
} | tee "$cache/$release.txt"
if grep -q '|failed|' "$root/try-on/steps"; then
    exit 1
fi
exit 0
}
