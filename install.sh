#!/bin/sh
# Makes the environment that `make demo` and `make test` run in: sh install.sh [FOLDER], by default .venv, beside it.
#
#   PYTHON=/path/to/python3.12   the interpreter; without it the first that fits, else one that uv fetches
#   INSTALLER=auto|uv|pip        uv asks the NVIDIA driver which build of torch fits and takes the CPU build where there
#                                is none; pip takes the CUDA build on Linux x86-64 whatever the machine has (several GB).
#                                auto: uv, and pip where uv or its index of torch cannot be reached
set -eu
unset CDPATH
INSTALLER=${INSTALLER:-auto}
PYTHON=${PYTHON:-}
case $PYTHON in
/*) ;;
*/*) PYTHON=$PWD/$PYTHON ;; # relative to where the command was typed
esac
cd "$(dirname "$0")"

VENV=${1:-.venv}
# As `requires-python` in pyproject.toml says; what uv fetches is the version that most packages have wheels for.
OLDEST=10 NEWEST=14 FETCHED=3.12
RANGE="Python 3.$OLDEST to 3.$NEWEST"

say() { echo "install: $*" >&2; }

fail() { # MESSAGE FIX
    echo "error: $1" >&2
    echo "fix: $2" >&2
    exit 2
}

fits() { # INTERPRETER
    "$1" -c "import sys
cpython = sys.implementation.name == 'cpython'
sys.exit(not (cpython and (3, $OLDEST) <= sys.version_info[:2] <= (3, $NEWEST)))" 2>/dev/null
}

version_of() {
    command -v "$1" >/dev/null 2>&1 || { echo "not there"; return; }
    "$1" -c 'import platform; print(platform.python_version())' 2>/dev/null || echo "something that does not run"
}

# The first that fits and can make an environment, which Debian's cannot without python3-venv; else the first that fits.
find_python() {
    for needed in ensurepip sys; do
        for candidate in python3 python3.12 python3.13 python3.11 python3.14 python3.10 python; do
            if fits "$candidate" && "$candidate" -c "import $needed" 2>/dev/null; then
                echo "$candidate"
                return
            fi
        done
    done
}

fetch_python() {
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    trap 'exit 130' INT TERM HUP
    if knows_torch uv; then
        uv=uv
    else
        # Any Python can install uv, into a folder that is gone afterwards.
        any=$(command -v python3 || command -v python) || return 1
        "$any" -m venv "$folder/uv" >/dev/null 2>&1 || return 1
        "$folder/uv/bin/python" -m pip install --quiet uv >/dev/null 2>&1 || return 1
        uv=$folder/uv/bin/uv
    fi
    say "no $RANGE is here: uv fetches Python $FETCHED"
    "$uv" venv --quiet --seed --managed-python --python "$FETCHED" "$VENV"
}

# A uv from before it chose builds of torch is of no use here.
knows_torch() { command -v "$1" >/dev/null 2>&1 && "$1" pip install --help 2>/dev/null | grep -q torch-backend; }

make_venv() {
    if [ -n "$PYTHON" ]; then
        fits "$PYTHON" || fail "samkr-edge needs $RANGE; $PYTHON is $(version_of "$PYTHON")" \
            "name another: PYTHON=/path/to/python3.12"
    else
        PYTHON=$(find_python)
    fi
    if [ -z "$PYTHON" ]; then
        fetch_python || fail "samkr-edge needs $RANGE; none was found, and none could be fetched" \
            "install one, or uv, which fetches one; or name it: PYTHON=/path/to/python3.12"
        return
    fi
    "$PYTHON" -m venv "$VENV" >"$VENV.log" 2>&1 && rm -f "$VENV.log" && return
    # Debian's python3 comes without venv: what is half made must not look like an environment to the next run.
    rm -rf "$VENV"
    if command -v uv >/dev/null 2>&1 && uv venv --quiet --seed --python "$PYTHON" "$VENV"; then
        rm -f "$VENV.log"
        return
    fi
    cat "$VENV.log" >&2
    rm -f "$VENV.log"
    fix="mend what is said above, or name another: PYTHON=/path/to/python3.12"
    "$PYTHON" -c 'import ensurepip' 2>/dev/null || fix="sudo apt install python3-venv   # or name another: PYTHON=..."
    fail "$PYTHON cannot make an environment" "$fix"
}

with_uv() {
    uv=uv
    knows_torch uv || {
        uv=$VENV/bin/uv
        "$VENV/bin/python" -m pip install --quiet -c constraints.txt uv >"$VENV/uv.log" 2>&1 || return 1
    }
    # By name: UV_SYSTEM_PYTHON and the like would put all of it elsewhere.
    # Compiled now, as pip does: else each of the first processes compiles ModelOpt and torch for itself, some seconds.
    "$uv" pip install --compile-bytecode --python "$VENV/bin/python" --torch-backend="${UV_TORCH_BACKEND:-auto}" \
        -c constraints.txt -e '.[dev]' >"$VENV/uv.log" 2>&1
}

with_pip() {
    "$VENV/bin/python" -m pip install --quiet -c constraints.txt -e '.[dev]' ||
        fail "pip could not install; its output is above" "the same command, once that is mended"
}

case $INSTALLER in
auto | uv | pip) ;;
*) fail "INSTALLER=$INSTALLER is none of auto, uv and pip" "INSTALLER=auto" ;;
esac

if { [ -e "$VENV" ] || [ -L "$VENV" ]; } && ! [ -x "$VENV/bin/python" ]; then
    fail "$VENV is no environment: $VENV/bin/python is missing, or its Python was removed" "rm -r $VENV, and again"
fi
[ -e "$VENV" ] || make_venv
if [ -n "$PYTHON" ] && [ "$(version_of "$PYTHON")" != "$(version_of "$VENV/bin/python")" ]; then
    fail "$VENV has Python $(version_of "$VENV/bin/python"), and $PYTHON is $(version_of "$PYTHON")" "rm -r $VENV, and again"
fi
fits "$VENV/bin/python" || fail "samkr-edge needs $RANGE; $VENV has $(version_of "$VENV/bin/python")" \
    "rm -r $VENV, and again"

"$VENV/bin/python" -m pip --version >/dev/null 2>&1 || "$VENV/bin/python" -m ensurepip >/dev/null 2>&1 ||
    fail "$VENV has no pip, and none could be put there" "rm -r $VENV, and again"

if [ "$INSTALLER" != pip ]; then
    say "uv installs, in some minutes; torch is the CPU build, or the CUDA build that the NVIDIA driver here can run"
    if with_uv; then exit; fi
    [ "$INSTALLER" = auto ] || {
        cat "$VENV/uv.log" >&2
        fail "uv could not install" "INSTALLER=pip installs without it"
    }
    why=$(grep -m 1 -o 'Failed to fetch.*' "$VENV/uv.log" || grep -m 1 '^error' "$VENV/uv.log" || echo "see $VENV/uv.log")
    say "uv could not ($why); pip installs: on Linux x86-64 torch is then the CUDA build, several GB"
fi
with_pip
