# SPDX-License-Identifier: Apache-2.0
# lib.sh -- what the pieces of tools/setup share: messages, checks of the machine, the cache.

deps_home=${XDG_CACHE_HOME:-$HOME/.cache}/perigee/deps

say()
{
    echo "setup: $*" >&2
}

# One sentence that says what to do; the log of what failed stands above it.
fail()
{
    echo "setup: $*" >&2
    exit 1
}

# quietly WHAT COMMAND...: shows a line with the time taken; the command's own words only when it fails,
# and on a terminal its last line while it runs.
quietly()
{
    local what=$1 log start=$SECONDS status=0 teller=
    shift
    log=$(mktemp "${TMPDIR:-/tmp}/perigee-setup.XXXXXX")
    echo "setup: $what ..." >&2
    # Without the lock's descriptor: its sleep outlives it, and the lock with that.
    [ ! -t 2 ] || { tell_progress "$log" 8>&- & teller=$!; }
    "$@" >"$log" 2>&1 || status=$?
    if [ -n "$teller" ]; then
        kill "$teller" 2>/dev/null || true
        wait "$teller" 2>/dev/null || true
        printf '\r\033[K' >&2
    fi
    if [ "$status" != 0 ]; then
        tail -n 25 "$log" >&2
        explain "$log"
    fi
    rm -f "$log"
    [ $((SECONDS - start)) -lt 5 ] || echo "setup: $what: done in $((SECONDS - start)) s" >&2
}

# Once a second how long it has taken, and the log's last line: one line of the terminal, written over.
tell_progress()
{
    local log=$1 begin=$SECONDS line width
    width=$(stty size <&2 2>/dev/null | cut -d ' ' -f 2) || true
    [ "${width:-0}" -ge 20 ] || width=80
    while sleep 1 && kill -0 $$ 2>/dev/null; do
        line=$(tail -c 400 "$log" | tr '\r' '\n' | LC_ALL=C tr -cd '\n\040-\176' | grep . | tail -n 1) || true
        line="  $((SECONDS - begin)) s  $line"
        printf '\r\033[K%s' "${line:0:width - 1}" >&2
    done
}

# Ends with the sentence that fits what the log says.
explain()
{
    local text
    text=$(cat "$1")
    rm -f "$1"
    case $text in
    *"No space left"* | *"not enough free space"* | *"don't have enough free space"*)
        fail "the disk is full: free 3 GB (the cache is $deps_home) and run the same command again" ;;
    *"Could not get lock"* | *"Unable to acquire the dpkg"*)
        fail "another package manager is at work: wait until it has ended and run the same command again" ;;
    *"Temporary failure resolving"* | *"Could not resolve"* | *"Could not connect"* | \
    *"Failed to fetch"* | *"Network is unreachable"* | *"Connection timed out"* | \
    *"Max retries exceeded"* | *"No matching distribution"* | *"NewConnectionError"*)
        fail "the package servers cannot be reached: check the network, or the proxy that apt and pip use, and run the same command again" ;;
    *"Unable to locate package"* | *"has no installation candidate"*)
        fail "no apt source of this machine has all that is needed: put Debian's own into /etc/apt/sources.list and run the same command again" ;;
    *"DO NOT MATCH THE HASHES"* | *"do not match the hashes"*)
        fail "a downloaded file is not the one that was locked: remove pip's cache and look at the package index that pip uses" ;;
    esac
    fail "the step above failed: its last lines say why; run the same command again once that is mended"
}

# Debian 12 or 13 on x86-64, or one sentence.
check_machine()
{
    release=$(. /etc/os-release 2>/dev/null && echo "${ID:-}-${VERSION_ID:-}") || release=unknown
    case $release in
    debian-12 | debian-13) ;;
    *) fail "this is $release, and the set-up knows Debian 12 and 13: use one of those, or a container of one" ;;
    esac
    release=${release#debian-}
    [ "$(uname -m)" = x86_64 ] ||
        fail "this machine is $(uname -m), and the set-up knows x86_64 alone: use such a machine"
}

# check_space FOLDER MEGABYTES
check_space()
{
    local free
    mkdir -p "$1" 2>/dev/null || fail "'$1' cannot be made: set XDG_CACHE_HOME to a folder of yours"
    free=$(df -Pm "$1" | awk 'NR == 2 { print $4 }')
    [ "$free" -ge "$2" ] ||
        fail "only $free MB are free at '$1' and $2 MB are needed: make room, or set XDG_CACHE_HOME to another disk"
}

# A component is a folder of the cache named by the versions that were found when it was made. What
# was asked for (the recipe: this script's pieces and lock files) points to it by a link, so that the
# next run need look at nothing else.
recipe_hash()
{
    { echo "$1 $release"; cat "$here"/setup.d/nextdeb.sh "$(component_source "$1")" "$(component_lock "$1")"; } |
        sha256sum | cut -c1-16
}

component_source()
{
    case $1 in
    native | testdata) echo "$here/setup.d/native.sh" ;;
    cities) echo "$here/setup.d/cities.sh" ;;
    conformance) echo "$here/setup.d/conformance.sh" ;;
    python | train | fastapi | mlserver) echo "$here/setup.d/python.sh" ;;
    *) fail "'$1' is none of native, testdata, cities, python, train, fastapi, mlserver, conformance" ;;
    esac
}

component_lock()
{
    case $1 in
    cities) echo "$here/make-cities" ;;
    python) echo "$here/setup.d/lock/test-$(python_version).txt" ;;
    train | fastapi | mlserver) echo "$here/setup.d/lock/$1-$(python_version).txt" ;;
    *) echo /dev/null ;;
    esac
}

# What cannot be had on this release; says why in $left_out.
component_left_out()
{
    [ "$1" != conformance ] || { conformance_left_out; return; }
    [ "$1" = mlserver ] && [ "$release" = 13 ] || return 1
    left_out="mlserver 1.7.1 needs a Python below 3.13, and Debian 13 has 3.13"
}

component_path()
{
    local link
    check_machine
    ! component_left_out "$1" || fail "$left_out"
    link=$deps_home/recipes/$1-$(recipe_hash "$1")
    [ -d "$link/" ] || fail "'$1' is not there yet: run tools/setup test (or train, bench, conformance)"
    readlink -f "$link"
}

# Each component_<name> DIR builds into DIR and writes DIR/versions.
component_make()
{
    local name=$1 link stage final
    link=$deps_home/recipes/$name-$(recipe_hash "$name")
    [ ! -e "$link/versions" ] || return 0
    check_space "$deps_home" "$(component_megabytes "$name")"
    mkdir -p "$deps_home/recipes"
    exec 8>"$deps_home/lock"
    flock -n 8 || { say "another set-up is at work, waiting for it"; flock 8; }
    if [ ! -e "$link/versions" ]; then
        stage=$(mktemp -d "$deps_home/.making.XXXXXX")
        trap 'rm -rf "$stage"' EXIT
        chmod 755 "$stage" # tests look into it as another user
        "component_$name" "$stage"
        final=$deps_home/$name-$(sha256sum "$stage/versions" | cut -c1-16)
        if [ ! -e "$final/versions" ]; then
            rm -rf "$final"
            mv "$stage" "$final"
            "component_${name}_moved" "$final"
        fi
        ln -sfn "../${final##*/}" "$link"
        rm -rf "$stage"
        trap - EXIT
        say "$name is in $final"
    fi
    exec 8>&-
}

component_megabytes()
{
    case $1 in
    native) echo 400 ;;
    testdata) echo 300 ;;
    cities) echo 300 ;;
    python) echo 900 ;;
    train) echo 1200 ;;
    fastapi) echo 400 ;;
    mlserver) echo 900 ;;
    conformance) echo 400 ;;
    esac
}
