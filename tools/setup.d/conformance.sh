# SPDX-License-Identifier: Apache-2.0
# conformance.sh -- the OCI distribution specification's own program, which tries a registry.

conformance_module=github.com/opencontainers/distribution-spec/conformance
conformance_version=v0.0.0-20260831232431-97274622c111
conformance_sum=h1:ppZPU0CrEPzyJhVggYwUIZrqh0w2lIT0esw+9ABNPA4=
conformance_go=1.24

# Says why not in $left_out.
conformance_left_out()
{
    local found
    found=$(GOTOOLCHAIN=local go env GOVERSION 2>/dev/null | sed 's/^go//') || true
    if [ -z "$found" ]; then
        left_out="the OCI conformance program: it is built with Go $conformance_go or later, and there is none"
    elif [ "$(printf '%s\n' "$found" "$conformance_go" | sort -V | head -n 1)" != "$conformance_go" ]; then
        left_out="the OCI conformance program: it is built with Go $conformance_go or later, and this is $found"
    else
        return 1
    fi
}

# DIR/conformance. What Go downloads stays in DIR until it is built, so that nothing outside changes;
# what the module needs is locked by its own go.sum.
component_conformance()
{
    local dir=$1 said
    export GOTOOLCHAIN=local GOFLAGS=-modcacherw CGO_ENABLED=0
    export GOMODCACHE=$dir/go/mod GOCACHE=$dir/go/build
    mkdir -p "$dir/go"
    say "gets OCI's conformance program $conformance_version into the cache (15 MB)"
    quietly "downloads it" sh -c 'cd "$0" && go mod download -json "$1" >module.json' \
        "$dir/go" "$conformance_module@$conformance_version"
    said=$(sed -n 's/^.*"Sum": "\(.*\)".*$/\1/p' "$dir/go/module.json")
    [ "$said" = "$conformance_sum" ] ||
        fail "the module $conformance_module has another sum than the one locked: look at the module proxy that go uses"
    cp -r "$GOMODCACHE/$conformance_module@$conformance_version" "$dir/go/source"
    quietly "builds it" sh -c 'cd "$0/go/source" && go build -trimpath -o "$0/conformance" .' "$dir"
    cp "$dir/go/source/LICENSE" "$dir/conformance.LICENSE"
    rm -rf "$dir/go"
    echo "conformance $conformance_version $conformance_sum" >"$dir/versions"
}

component_conformance_moved()
{
    :
}
