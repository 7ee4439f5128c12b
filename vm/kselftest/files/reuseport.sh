#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# Run the cases of reuseport-harness on this kernel, as one of its selftests; arguments go to pytest, such as -k.
#
# Exit status: 0 passed, 1 failed, 4 skipped, as kselftest has them. REUSEPORT_PYTHON names the Python to use, and
# KSFT_MACHINE_SLOW=yes says that this machine is slow.

skip() {
	echo "TAP version 13"
	echo "1..0 # SKIP $*"
	exit 4
}

harness=$(dirname "$(readlink -f "$0")")/reuseport-harness
[ -d "$harness" ] || skip "there is no $harness: export it again"

python=$REUSEPORT_PYTHON
if [ -z "$python" ]; then
	# The one that the harness was exported with, unless this is another machine.
	python=$(cat "$harness/python" 2>/dev/null)
	[ -x "$python" ] || python=python3
fi
command -v "$python" >/dev/null || skip "there is no $python: install Python 3.11 or newer, or set REUSEPORT_PYTHON"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
	skip "$python is older than 3.11: set REUSEPORT_PYTHON to a newer one"

[ "$(id -u)" -eq 0 ] || skip "this needs root"

if ! [ -w "$harness" ]; then
	# Results and bytecode are written beside the code.
	copy=$(mktemp -d) || exit 1
	trap 'rm -rf "$copy"' EXIT
	trap 'exit 130' INT TERM
	cp -R "$harness" "$copy/" || exit 1
	harness=$copy/reuseport-harness
fi

cd "$harness" || exit 1
"$python" -m vm.kselftest "$@"
