# SPDX-License-Identifier: Apache-2.0
# packages.sh -- the Debian packages of each group, and how they are installed.

packages_run='
    gcc libc6-dev linux-libc-dev make meson ninja-build pkg-config
    ca-certificates curl procps python3 python3-venv
    libuv1-dev libssl-dev libyaml-dev libsqlite3-dev libseccomp-dev libcurl4-openssl-dev
    libpng-dev libjpeg62-turbo-dev zlib1g-dev libknot-dev libmaxminddb-dev libcmocka-dev
    tzdata TZLEGACY'
# libclang-rt: without it clang's sanitizers and libFuzzer do not link.
# podman, docker.io: engines that the tests start as services of their own; runc: what both run;
# e2fsprogs: what is in their volumes.
packages_test='clang-LLVM libclang-rt-LLVM-dev llvm-LLVM zsh bind9-dnsutils unbound
    podman docker.io runc busybox-static skopeo e2fsprogs'
packages_lint='clang-tidy-LLVM clang-format-LLVM'
packages_bench='nginx-light wrk binutils knot knot-module-geoip dnsperf'
packages_fresh='debootstrap'

# What we use of them that an older one lacks: package, least version.
packages_least='
    meson 1.0.1
    libuv1-dev 1.44
    libssl-dev 3.0
    libsqlite3-dev 3.40
    libknot-dev 3.2
    libseccomp-dev 2.5'

packages_of()
{
    local llvm=14 legacy=
    [ "$release" = 12 ] || { llvm=19; legacy=tzdata-legacy; } # in 12 tzdata has the old names, too
    case $1 in
    run) echo $packages_run ;;
    test) echo $packages_run $packages_test ;;
    lint) echo $packages_run $packages_test $packages_lint ;;
    bench) echo $packages_run $packages_bench ;;
    train) echo ca-certificates python3 python3-venv ;;
    conformance) echo ca-certificates ;;
    fresh) echo $packages_fresh ;;
    esac | tr ' ' '\n' | sed "s/LLVM/$llvm/; s/TZLEGACY/$legacy/; /^$/d"
}

# Prints those of the named packages that are not installed.
packages_missing()
{
    local found
    found=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "$@" 2>/dev/null |
        sed -n 's/^installed //p') || true
    printf '%s\n' "$@" | grep -vxF -e "$found" || true
}

packages_check_versions()
{
    local name least found
    while read -r name least; do
        [ -n "$name" ] || continue
        found=$(dpkg-query -W -f '${Version}' "$name" 2>/dev/null) || continue
        dpkg --compare-versions "$found" ge "$least" ||
            fail "$name is $found and must be at least $least: run 'apt-get install $name' with this release's own sources"
    done <<<"$packages_least"
}

# Where one of several sources is away, those that are left may have all.
packages_lists()
{
    "${as_root[@]}" apt-get -qq update --error-on=any ||
        apt-get -qq --simulate install --no-install-recommends $missing >/dev/null 2>&1
}

packages_install()
{
    local group wanted missing as_root=()
    wanted=$(for group in "$@"; do packages_of "$group"; done | sort -u)
    missing=$(packages_missing $wanted)
    if [ -n "$missing" ]; then
        missing=$(echo $missing)
        if [ "$(id -u)" != 0 ]; then
            command -v sudo >/dev/null ||
                fail "Debian packages are missing and there is neither root nor sudo: as root run 'apt-get install --no-install-recommends $missing'"
            as_root=(sudo)
            if [ ! -t 0 ] && ! sudo -n true 2>/dev/null; then
                fail "Debian packages are missing and sudo wants a password: run 'sudo apt-get install --no-install-recommends $missing' first"
            fi
            sudo -v || fail "sudo refused: as root run 'apt-get install --no-install-recommends $missing'"
        fi
        say "installs with ${as_root[*]:+sudo }apt-get: $missing"
        check_space "${XDG_CACHE_HOME:-$HOME/.cache}" 200
        [ "$(df -Pm /usr | awk 'NR == 2 { print $4 }')" -ge 1500 ] ||
            fail "less than 1.5 GB are free at /usr: make room and run the same command again"
        quietly "reads the package lists" packages_lists
        # RUNLEVEL=1: what is installed (nginx) is not started as a service.
        quietly "installs $(wc -w <<<"$missing") packages" "${as_root[@]}" env RUNLEVEL=1 \
            DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $missing
    fi
    packages_check_versions
}
