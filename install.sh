#!/bin/sh
# Makes the environment that `make demo` and `make test` run in: sh install.sh [FOLDER], by default .venv.
#
#   PYTHON=/path/to/python3.12   the interpreter; without it the first that fits, else one that uv fetches
#   INSTALLER=auto|uv|pip        uv asks the NVIDIA driver which build of torch fits and takes the CPU build where there
#                                is none; pip takes the CUDA build on Linux x86-64 whatever the machine has (several GB).
#                                auto: uv, and pip where uv or its index of torch cannot be reached
set -eu
cd "$(dirname "$0")"

VENV=${1:-.venv}
INSTALLER=${INSTALLER:-auto}
PYTHON=${PYTHON:-}
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
    "$1" -c "import sys; sys.exit(not (3, $OLDEST) <= sys.version_info[:2] <= (3, $NEWEST))" 2>/dev/null
}

version_of() { "$1" -c 'import platform; print(platform.python_version())' 2>/dev/null || echo "something that does not run"; }

find_python() {
    for candidate in python3 python3.12 python3.13 python3.11 python3.14 python3.10 python; do
        if fits "$candidate"; then
            echo "$candidate"
            return
        fi
    done
}

# uv beside the environment: the user's own, or one that any Python can install into a folder that is gone afterwards.
find_uv() { # FOLDER
    if command -v uv >/dev/null 2>&1; then
        echo uv
        return
    fi
    for candidate in python3 python; do
        if "$candidate" -m venv "$1" >/dev/null 2>&1 && "$1/bin/python" -m pip install --quiet uv >&2; then
            echo "$1/bin/uv"
            return
        fi
    done
}

fetch_python() {
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    uv=$(find_uv "$folder/uv")
    test -n "$uv" || return 1
    say "no $RANGE is here: uv fetches Python $FETCHED"
    "$uv" venv --quiet --seed --managed-python --python "$FETCHED" "$VENV"
}

make_venv() {
    if [ -n "$PYTHON" ]; then
        fits "$PYTHON" || fail "samkr-edge needs $RANGE; $PYTHON is $(version_of "$PYTHON")" \
            "name another: PYTHON=/path/to/python3.12"
    else
        PYTHON=$(find_python)
    fi
    if [ -z "$PYTHON" ]; then
        fetch_python || fail "samkr-edge needs $RANGE; none was found, and none could be fetched" \
            "install one, or name it: PYTHON=/path/to/python3.12"
        return
    fi
    # Debian's python3 comes without venv: what is half made must not look like an environment to the next run.
    "$PYTHON" -m venv "$VENV" || {
        rm -rf "$VENV"
        fail "$PYTHON cannot make an environment" "sudo apt install python3-venv   # or name another: PYTHON=..."
    }
}

with_uv() {
    uv=uv
    command -v uv >/dev/null 2>&1 || {
        uv=$VENV/bin/uv
        "$VENV/bin/python" -m pip install --quiet -c constraints.txt uv >"$VENV/uv.log" 2>&1 || return 1
    }
    VIRTUAL_ENV=$VENV "$uv" pip install --torch-backend="${UV_TORCH_BACKEND:-auto}" \
        -c constraints.txt -e '.[dev]' >"$VENV/uv.log" 2>&1
}

with_pip() { "$VENV/bin/python" -m pip install --quiet -c constraints.txt -e '.[dev]'; }

if [ -e "$VENV" ] && ! [ -x "$VENV/bin/python" ]; then
    fail "$VENV is no environment: $VENV/bin/python is missing, or its Python was removed" "rm -r $VENV, and again"
fi
[ -e "$VENV" ] || make_venv
fits "$VENV/bin/python" || fail "samkr-edge needs $RANGE; $VENV has $(version_of "$VENV/bin/python")" \
    "rm -r $VENV, and again"

"$VENV/bin/python" -m pip --version >/dev/null 2>&1 || "$VENV/bin/python" -m ensurepip >/dev/null 2>&1 ||
    fail "$VENV has no pip, and none could be put there" "rm -r $VENV, and again"

case $INSTALLER in
auto | uv)
    say "uv installs; torch is the CPU build, or the CUDA build that the NVIDIA driver here can run"
    if with_uv; then exit; fi
    [ "$INSTALLER" = auto ] || {
        cat "$VENV/uv.log" >&2
        fail "uv could not install" "INSTALLER=pip installs without it"
    }
    say "uv or its index of torch cannot be reached (why: $VENV/uv.log): pip installs;" \
        "on Linux x86-64 torch is then the CUDA build, several GB"
    with_pip
    ;;
pip) with_pip ;;
*) fail "INSTALLER=$INSTALLER is none of auto, uv and pip" "INSTALLER=auto" ;;
esac
