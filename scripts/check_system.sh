#!/bin/sh
# Names what the system lacks, with the command that installs it on Debian and Ubuntu.
python=${PYTHON:-python3}
missing=""

need() {
    echo "codesign: $1; install it with: apt-get install $2" >&2
    missing=yes
}

if ! command -v "$python" >/dev/null 2>&1; then
    need "$python is not installed" "python3 python3-venv"
elif ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "codesign: $("$python" --version) is too old, must be 3.11 or newer; name another with: make PYTHON=..." >&2
    missing=yes
elif ! "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then
    need "$python has no venv" python3-venv
fi
command -v g++ >/dev/null 2>&1 || need "g++ is not installed" g++
command -v make >/dev/null 2>&1 || need "make is not installed" make
if ! command -v iverilog >/dev/null 2>&1; then
    echo "codesign: iverilog is not installed: the tests that look for unknown bits do not run; install it with: apt-get install iverilog" >&2
fi
[ -z "$missing" ]
