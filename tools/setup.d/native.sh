# SPDX-License-Identifier: Apache-2.0
# native.sh -- what Debian 12 lacks: llhttp, yyjson, ONNX Runtime; and ONNX's operator cases.

onnxruntime_version=1.32.0
onnxruntime_sha256=5a34fc4dfeb5a7b4a74c95dcba1e773d722abda720b474edf1b0c419dc6d163d

# DIR/{include,lib,lib/pkgconfig,share}. The library of ONNX Runtime is PyPI's (its C API is versioned:
# headers of 1.21 ask a 1.32 library for what they know).
component_native()
{
    local dir=$1 libs pc
    say "gets llhttp, yyjson and ONNX Runtime $onnxruntime_version into the cache (60 MB)"
    nextdeb "$dir/deb" "$dir/versions" libllhttp-dev:9.2 libyyjson-dev:0.10 libyyjson0:0.10 \
        libonnxruntime-dev:1.21
    libs=$dir/deb/usr/lib/x86_64-linux-gnu
    mkdir -p "$dir/include" "$dir/lib/pkgconfig" "$dir/share"
    cp -a "$dir/deb/usr/include/." "$dir/include/"
    # Not libllhttp.so and libonnxruntime.so: what they point to is in other packages.
    cp -a "$libs/libllhttp.a" "$libs"/libyyjson.so* "$dir/lib/"
    for pc in libllhttp yyjson; do cp "$libs/pkgconfig/$pc.pc" "$dir/lib/pkgconfig/"; done
    for pc in libyyjson0 libllhttp-dev; do
        cp "$dir/deb/usr/share/doc/$pc/copyright" "$dir/share/$pc.copyright"
    done
    rm -rf "$dir/deb"
    onnxruntime_wheel "$dir"
    echo "onnxruntime $onnxruntime_version $onnxruntime_sha256" >>"$dir/versions"
}

# pkg-config files name their own folder, wherever it lies; nothing to do after the move.
component_native_moved()
{
    sed -i -e 's#=/usr/lib/[^/]*#=${pcfiledir}/..#' -e 's#=/usr#=${pcfiledir}/../..#' \
        "$1"/lib/pkgconfig/*.pc
}

onnxruntime_wheel()
{
    local dir=$1 wheel
    quietly "makes a Python environment to download with" python_new_venv "$dir/venv"
    quietly "downloads ONNX Runtime $onnxruntime_version" "$dir/venv/bin/python" -m pip download \
        --disable-pip-version-check --no-deps --only-binary=:all: --python-version 3.11 \
        --implementation cp --abi cp311 --platform manylinux_2_28_x86_64 -d "$dir/wheel" \
        "onnxruntime==$onnxruntime_version"
    wheel=$(echo "$dir"/wheel/*.whl)
    echo "$onnxruntime_sha256  $wheel" | sha256sum -c --quiet >/dev/null 2>&1 ||
        fail "ONNX Runtime's file has another digest than the one locked: look at the package index that pip uses"
    python3 -m zipfile -e "$wheel" "$dir/wheel/x"
    cp "$dir"/wheel/x/onnxruntime/capi/libonnxruntime*.so* "$dir/lib/"
    chmod 755 "$dir"/lib/libonnxruntime*
    ln -sf "libonnxruntime.so.$onnxruntime_version" "$dir/lib/libonnxruntime.so.1"
    cp -a "$dir"/wheel/x/onnxruntime/{datasets,LICENSE,ThirdPartyNotices.txt} "$dir/share/"
    rm -rf "$dir/venv" "$dir/wheel"
}

# ONNX's cases with inputs and expected outputs, for the tests: DIR/onnx (node/..., light/...).
component_testdata()
{
    local dir=$1 found
    say "gets the operator cases of ONNX into the cache (tests only)"
    nextdeb "$dir/deb" "$dir/versions" libonnx-testdata:1.17
    found=$(find "$dir/deb" -type d -name node -path '*data/node' -print -quit)
    [ -n "$found" ] || fail "libonnx-testdata holds no folder data/node: renew tools/setup.d/native.sh"
    mv "${found%/node}" "$dir/onnx"
    rm -rf "$dir/deb"
}

component_testdata_moved()
{
    :
}
