# SPDX-License-Identifier: Apache-2.0
# python.sh -- Python environments from lock files, one file for each Debian's Python.

# Debian's own, because the lock files are for its versions; another python3 may stand first in PATH.
python_program()
{
    if [ -x /usr/bin/python3 ]; then echo /usr/bin/python3; else command -v python3; fi
}

python_version()
{
    if [ "$release" = 12 ]; then echo 3.11; else echo 3.13; fi
}

python_new_venv()
{
    "$(python_program)" -m venv "$1"
}

# An environment's programs name its place, so that it is made where it will stay.
python_environment()
{
    local dir=$1 kind=$2 lock
    lock=$here/setup.d/lock/$kind-$(python_version).txt
    { echo "$kind $(python_version)"; cat "$lock"; } >"$dir/versions"
}

python_install()
{
    local dir=$1 kind=$2 lock
    lock=$here/setup.d/lock/$kind-$(python_version).txt
    # Until all is there the folder does not count as made.
    mv "$dir/versions" "$dir/versions.new"
    quietly "makes the Python environment '$kind'" python_new_venv "$dir/venv"
    quietly "installs $(grep -c == "$lock") Python packages, each checked by digest" \
        "$dir/venv/bin/python" -m pip install --disable-pip-version-check --no-deps \
        --only-binary=:all: --require-hashes -r "$lock"
    mv "$dir/versions.new" "$dir/versions"
}

component_python()
{
    python_environment "$1" test
}

component_python_moved()
{
    python_install "$1" test
}

component_train()
{
    python_environment "$1" train
}

component_train_moved()
{
    python_install "$1" train
}

# The benchmark's peers.
component_fastapi()
{
    python_environment "$1" fastapi
}

component_fastapi_moved()
{
    python_install "$1" fastapi
}

component_mlserver()
{
    python_environment "$1" mlserver
}

component_mlserver_moved()
{
    python_install "$1" mlserver
}
