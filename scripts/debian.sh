# shellcheck shell=sh
# Packages of a release of Debian, which need not be this system's, without installing them and without root: apt
# with lists, cache and configuration of its own. Sourced by scripts that define say and fail.

# Debian's keys, by which apt checks what it downloads
debian_keys() {
    for keys in /usr/share/keyrings/debian-archive-keyring.gpg /usr/share/keyrings/debian-archive-keyring.pgp; do
        [ ! -r "$keys" ] || return 0
    done
    fail "Debian's keys, by which downloads are checked, are missing: apt-get install debian-archive-keyring"
}

# servers of Debian's packages: DEBIAN_MIRROR, and where this system gets Debian from
debian_mirrors() {
    {
        echo "${DEBIAN_MIRROR:-}"
        # by what the lists say of their origin; by their names where no list has been fetched yet
        {
            apt-get indextargets --format '$(SITE) $(ORIGIN) $(LABEL)' 2>/dev/null | sed -n 's/ Debian Debian$//p'
            apt-get indextargets --no-release-info --format '$(SITE)' 2>/dev/null | grep -E '://[^/]*/debian/?$'
        } | grep -E '^https?://[^ ]*$' || true
    } | sed 's,/*$,,; /^$/d' | awk '!seen[$0]++'
}

# debian_begin FOLDER RELEASE deb|deb-src: make an empty folder in which debian_get works
debian_begin() {
    debian_folder=$1
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null ||
        fail "this needs apt-get and dpkg-deb, which this system lacks"
    debian_keys
    rm -rf "$debian_folder"
    mkdir -p "$debian_folder/lists/partial" "$debian_folder/cache/archives/partial" "$debian_folder/none"
    : >"$debian_folder/status"
    {
        # the system's own ways into the net, but not its hooks, which look after its own packages
        apt-config dump | grep -iE '^Acquire::(https?|ftp|tor|socks|Retries|ForceIPv[46]|Queue-Mode)\b' || true
        cat <<CONFIGURATION
Dir::State "$debian_folder";
Dir::State::lists "$debian_folder/lists";
Dir::State::status "$debian_folder/status";
Dir::Cache "$debian_folder/cache";
Dir::Etc::main "$debian_folder/none/apt.conf";
Dir::Etc::parts "$debian_folder/none";
Dir::Etc::preferences "$debian_folder/none/preferences";
Dir::Etc::preferencesparts "$debian_folder/none";
Dir::Etc::sourcelist "$debian_folder/sources.list";
Dir::Etc::sourceparts "$debian_folder/none";
APT::Architecture "amd64";
APT::Architectures { "amd64"; };
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowWeakRepositories "false";
Acquire::Languages "none";
Acquire::PDiffs "false";
CONFIGURATION
    } >"$debian_folder/apt.conf"
    mirrors=$(debian_mirrors)
    [ -n "$mirrors" ] ||
        fail "apt knows no server of Debian here: set DEBIAN_MIRROR to one (https://www.debian.org/mirror/list)"
    for mirror in $mirrors; do
        echo "$3 [signed-by=$keys] $mirror $2 main" >"$debian_folder/sources.list"
        say "reading the list of packages of Debian $2 at $mirror"
        if debian_get update >"$debian_folder/log" 2>&1; then
            return 0
        fi
        grep -E '^[EW]:' "$debian_folder/log" | tail -n 3 >&2
    done
    fail "no server had Debian $2: set DEBIAN_MIRROR to another (apt's own settings for proxies are used)"
}

# apt-get in that folder; what it says is shown when it fails
debian_get() {
    APT_CONFIG="$debian_folder/apt.conf" apt-get -q -y "$@" </dev/null
}

debian_download() {
    debian_get "$@" >>"$debian_folder/log" 2>&1 && return
    tail -n 20 "$debian_folder/log" >&2
    fail "failed: apt-get $* of Debian; run this again"
}

# how many MB were downloaded, as apt-get says
debian_megabytes() {
    awk '/^Fetched/ { n = $2; gsub(",", "", n); sum += n * ($3 == "MB" ? 1 : $3 == "kB" ? 1e-3 : 1e-6) }
        END { printf "%.0f", sum }' "$debian_folder/log"
}

# emulator_place NEW: a folder with bin and lib becomes build/qemu
emulator_place() {
    rm -rf build/qemu.old
    [ ! -e build/qemu ] || mv build/qemu build/qemu.old
    mv "$1" build/qemu
    rm -rf build/qemu.old
}
