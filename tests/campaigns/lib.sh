# shellcheck shell=sh disable=SC2034 # the campaigns use the variables
# All campaigns read this file.
# A campaign is a script tests/campaigns/NAME that takes a size, "ci", "full" or "long", prints a
# table with one row a case, and fails on one violation, or on a control that finds none. It begins
# with
#
#   . "$(dirname "$0")/lib.sh"
#   campaign_begin "$@"
#
# and ends with campaign_end. All its files are below $WORK, which is removed with the mounts in it.
# It exits with 0, or 1 (2 if the campaign itself is broken), or, if every case was skipped, 77, and
# the last line says why.

ROOT=$(cd "$(dirname "$0")/../.." && pwd)
LIBRARY=$ROOT/build/libatomshim.so
ATOMSHIM=$ROOT/build/atomshim
PATH=$PATH:/usr/sbin:/sbin
export LC_ALL=C

campaign_begin() { # SIZE
    CAMPAIGN=$(basename "$0")
    SIZE=${1:-}
    case $SIZE in
    ci | full | long) ;;
    *)
        echo "$CAMPAIGN: '$SIZE': accepted are ci, full and long" >&2
        exit 2
        ;;
    esac
    failures=0
    rows=0
    MOUNTS=
    trap clean_up EXIT
    trap 'exit 130' INT TERM
    mkdir -p "$ROOT/build"
    WORK=$(mktemp -d "$ROOT/build/$CAMPAIGN.XXXXXX")
    chmod 711 "$WORK" # some cases become another user
    printf '%s, %s size, Linux %s, %s CPUs\n' "$CAMPAIGN" "$SIZE" "$(uname -r)" "$(nproc)"
    printf '%-58s %9s %10s\n' 'case' 'trials' 'violations'
}

clean_up() {
    status=$?
    trap - EXIT INT TERM
    for mounted in $MOUNTS; do
        take_away "$mounted"
    done
    rm -rf "$WORK"
    exit "$status"
}

# Prints the first argument at CI size, the second at full size, the third, if there is one, at long
# size.
pick() { # CI FULL [LONG]
    case $SIZE in
    ci) echo "$1" ;;
    full) echo "$2" ;;
    long) echo "${3:-$2}" ;;
    esac
}

# One case: there must be no violation.
row() { # CASE TRIALS VIOLATIONS
    printf '%-58s %9s %10s\n' "$1" "$2" "$3"
    rows=$((rows + 1))
    if [ "$2" -eq 0 ] || [ "$3" -ne 0 ]; then
        failures=$((failures + 1))
    fi
}

# A control: the same harness on code that is known to be wrong must find that.
control() { # CASE TRIALS VIOLATIONS
    printf '%-58s %9s %10s\n' "control: $1" "$2" "$3"
    [ "$3" -ne 0 ] || failures=$((failures + 1))
}

skip() { # CASE WHY
    skipped=$(echo "$2" | grep -v 'dmesg(1)' | tail -n 1) # mount(8) ends each complaint with that hint
    printf '%-58s skipped: %s\n' "$1" "$skipped"
}

# Fails with the reason in $WHY if a package is missing that scripts/bootstrap installs for this
# purpose.
need() { # PURPOSE
    WHY=$("$ROOT/scripts/bootstrap" --check "$1" 2>&1)
}

# Makes a file system of TYPE and mounts it on the new folder DIR: ext4, xfs, btrfs, tmpfs, overlay
# (over ext4). Fails with the reason in $WHY where that cannot be done here.
mount_new() { # TYPE DIR [MIB]
    megabytes=${3:-400} # xfs wants 300
    mkdir -p "$2"
    if [ "$(id -u)" -ne 0 ]; then
        WHY='mounting needs root'
        return 1
    fi
    case $1 in
    tmpfs)
        WHY=$(mount -t tmpfs -o "size=${megabytes}m" tmpfs "$2" 2>&1) || return 1
        ;;
    overlay)
        mount_new ext4 "$2.layers" "$megabytes" || return 1
        mkdir "$2.layers/lower" "$2.layers/upper" "$2.layers/work"
        WHY=$(mount -t overlay -o "lowerdir=$2.layers/lower,upperdir=$2.layers/upper,workdir=$2.layers/work" \
            overlay "$2" 2>&1) || return 1
        ;;
    ext4 | xfs | btrfs)
        need filesystems || return 1
        truncate -s "${megabytes}M" "$2.disk"
        WHY=$("mkfs.$1" -q "$2.disk" 2>&1) || return 1
        WHY=$(mount -o loop "$2.disk" "$2" 2>&1) || return 1
        ;;
    *)
        WHY="$1: accepted are ext4, xfs, btrfs, tmpfs and overlay"
        return 1
        ;;
    esac
    MOUNTS="$2 $MOUNTS"
}

# Waits for a process that may still write for a killed program.
take_away() { # DIR
    umount "$1" 2>/dev/null || umount -l "$1"
}

# Removes the mount of mount_new.
unmount() { # DIR
    for mounted in "$1" "$1.layers"; do
        case " $MOUNTS " in
        *" $mounted "*)
            take_away "$mounted"
            MOUNTS=$(echo " $MOUNTS " | sed "s| $mounted | |")
            ;;
        esac
        rm -f "$mounted.disk"
    done
}

# Builds an engine with one line changed: SED-SCRIPT on a FILE of shim/. Builds only the changed
# parts again.
build_broken() { # NAME FILE SED-SCRIPT [LIBRARY]
    mkdir -p "$WORK/$1/build" "$WORK/$1/tests"
    cp -a "$ROOT/Makefile" "$ROOT/shim" "$WORK/$1"
    cp -a "$ROOT/tests/lib" "$WORK/$1/tests"
    cp -a "$ROOT/build/$([ $# -eq 4 ] && echo failing || echo objects)" "$WORK/$1/build"
    sed "$3" "$ROOT/shim/$2" >"$WORK/$1/shim/$2"
    if cmp -s "$ROOT/shim/$2" "$WORK/$1/shim/$2" ||
        ! make -C "$WORK/$1" WARNINGS=-std=gnu17 "${4:-build/libatomshim.so}" >"$WORK/log" 2>&1; then
        echo "$CAMPAIGN: $2: '$3' changes nothing, or breaks it more than it should" >&2
        tail -n 5 "$WORK/log" >&2
        exit 2
    fi
}

# Builds an engine in which a system call does nothing, and returns success.
build_without() { # NAME CALL PARAMETERS
    build_broken "$1" store/calls.c \
        "s/^struct store_calls store_calls/static int nothing($3) { return 0; }\n&/; s/= sys_$2,/= nothing,/"
}

campaign_end() {
    if [ "$failures" -ne 0 ]; then
        echo "$CAMPAIGN: $failures cases failed"
        exit 1
    fi
    if [ "$rows" -eq 0 ]; then
        echo "$CAMPAIGN: every case was skipped: $skipped"
        exit 77
    fi
    echo "$CAMPAIGN: no violation"
}
