# SPDX-License-Identifier: Apache-2.0
# nextdeb.sh -- packages of Debian 13, unpacked and not installed, on Debian 12 and 13 alike.
#
# A private apt configuration is made from the machine's own sources with the suite renamed, with
# its own lists and cache; apt checks signatures and digests as ever. Needs no root.

nextdeb_suite=trixie

# Prints the machine's sources with this release's name replaced. Only archives whose suite is the
# release's own name are taken: another party's suite is not ours to rename.
nextdeb_sources()
{
    local from=$1 to=$2 file out=$3
    mkdir -p "$out"
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
        [ -s "$file" ] || continue
        grep -E "^deb .*[[:space:]]$from(-updates|-security)?[[:space:]].*\bmain\b" "$file" |
            sed -E "s/([[:space:]])$from\b/\1$to/" >"$out/${file##*/}" || true
    done
    for file in /etc/apt/sources.list.d/*.sources; do
        [ -s "$file" ] || continue
        grep -qE "^Suites:.*[[:space:]]$from(-updates|-security)?([[:space:]]|$)" "$file" || continue
        sed -E "/^Suites:/s/([[:space:]])$from\b/\1$to/g" "$file" >"$out/${file##*/}"
    done
    [ ! -e "$out/sources.list" ] || mv "$out/sources.list" "$out/machine.list"
}

# nextdeb DEST VERSIONS_FILE PACKAGE:LEAST_VERSION...
nextdeb()
{
    local dest=$1 versions=$2 row name least deb found codename stage
    shift 2
    codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
    stage=$dest.apt
    mkdir -p "$stage/lists/partial" "$stage/archives/partial" "$stage/debs" "$dest"
    nextdeb_sources "$codename" "$nextdeb_suite" "$stage/sources.list.d"
    [ -n "$(ls -A "$stage/sources.list.d")" ] ||
        fail "no apt source of this machine names $codename: put Debian's own into /etc/apt/sources.list"
    {
        # APT_CONFIG is read before apt.conf.d, so that the machine's parts are left out (hooks, index
        # targets) and only its network settings are carried over; trusted keys stay the machine's.
        apt-config dump | grep '^Acquire::' | grep -v '^Acquire::IndexTargets'
        cat <<CONF
Dir::Etc::Main "/dev/null";
Dir::Etc::Parts "/dev/null";
Dir::Etc::SourceList "/dev/null";
Dir::Etc::SourceParts "$stage/sources.list.d";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
Dir::State "$stage";
Dir::State::Lists "$stage/lists";
Dir::State::status "/dev/null";
Dir::Cache "$stage";
Dir::Cache::Archives "$stage/archives";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
Acquire::Languages "none";
APT::Sandbox::User "root";
CONF
    } >"$stage/apt.conf"
    quietly "reads the package lists of Debian $nextdeb_suite" \
        env APT_CONFIG="$stage/apt.conf" apt-get -q update --error-on=any
    for row in "$@"; do
        name=${row%%:*} least=${row##*:}
        quietly "downloads $name" nextdeb_fetch "$stage" "$name"
        deb=$(echo "$stage/debs/$name"_*.deb)
        found=$(dpkg-deb -f "$deb" Version)
        dpkg --compare-versions "$found" ge "$least" ||
            fail "$name is $found in Debian $nextdeb_suite and must be at least $least: renew the machine's apt sources"
        dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$dest" --no-same-owner
        echo "$name $found $(sha256sum "$deb" | cut -d' ' -f1)" >>"$versions"
    done
    rm -rf "$stage"
}

nextdeb_fetch()
(
    cd "$1/debs"
    APT_CONFIG=$1/apt.conf apt-get -q download "$2"
)
