# SPDX-License-Identifier: Apache-2.0
# conformance.sh -- the OCI distribution specification's own program, which tries a registry, and
# oras, a client of registries for what is no image. Both are built from their source.

conformance_module=github.com/opencontainers/distribution-spec/conformance
conformance_version=v0.0.0-20260831232431-97274622c111
conformance_sum=h1:ppZPU0CrEPzyJhVggYwUIZrqh0w2lIT0esw+9ABNPA4=
conformance_go=1.24
oras_module=oras.land/oras
oras_version=v1.3.4
oras_sum=h1:ny44PJSsrLalEmyntFRi3Tmy3b1PTUZ3S4FeIRdVcU4=
oras_go=1.25.7

# go_is VERSION: is there that Go, or a later one? $found_go is what there is; empty: none.
go_is()
{
    found_go=$(GOTOOLCHAIN=local go env GOVERSION 2>/dev/null | sed 's/^go//') || true
    [ -n "$found_go" ] && [ "$(printf '%s\n' "$found_go" "$1" | sort -V | head -n 1)" = "$1" ]
}

# Says why not in $left_out.
conformance_left_out()
{
    ! go_is "$conformance_go" || return 1
    left_out="the OCI conformance program: it is built with Go $conformance_go or later, and ${found_go:+this is }${found_go:-there is none}"
}

# go_module DIR MODULE VERSION SUM: its source in DIR/go/source. What Go downloads stays in DIR until
# all is built, so that nothing outside changes; what the module needs is locked by its own go.sum.
go_module()
{
    local dir=$1 module=$2 version=$3 sum=$4 said
    quietly "downloads it" sh -c 'cd "$0" && go mod download -json "$1" >module.json' \
        "$dir/go" "$module@$version"
    said=$(sed -n 's/^.*"Sum": "\(.*\)".*$/\1/p' "$dir/go/module.json")
    [ "$said" = "$sum" ] ||
        fail "the module $module has another sum than the one locked: look at the module proxy that go uses"
    rm -rf "$dir/go/source"
    cp -r "$GOMODCACHE/$module@$version" "$dir/go/source"
}

# DIR/conformance; DIR/oras where there is a Go for it.
component_conformance()
{
    local dir=$1
    export GOTOOLCHAIN=local GOFLAGS=-modcacherw CGO_ENABLED=0
    export GOMODCACHE=$dir/go/mod GOCACHE=$dir/go/build
    mkdir -p "$dir/go"
    say "gets OCI's conformance program $conformance_version into the cache (15 MB)"
    go_module "$dir" "$conformance_module" "$conformance_version" "$conformance_sum"
    quietly "builds it" sh -c 'cd "$0/go/source" && go build -trimpath -o "$0/conformance" .' "$dir"
    cp "$dir/go/source/LICENSE" "$dir/conformance.LICENSE"
    echo "conformance $conformance_version $conformance_sum" >"$dir/versions"
    if go_is "$oras_go"; then
        say "gets oras $oras_version into the cache (40 MB)"
        go_module "$dir" "$oras_module" "$oras_version" "$oras_sum"
        quietly "builds it" sh -c 'cd "$0/go/source" && go build -trimpath -o "$0/oras" ./cmd/oras' "$dir"
        cp "$dir/go/source/LICENSE" "$dir/oras.LICENSE"
        echo "oras $oras_version $oras_sum" >>"$dir/versions"
    else
        say "leaves oras out: it is built with Go $oras_go or later, and this is $found_go"
    fi
    rm -rf "$dir/go"
}

component_conformance_moved()
{
    :
}
