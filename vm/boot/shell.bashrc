# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# Read by the bash of `python -m vm shell`: the user's own file first, then the PATH with the Python of the command, for
# the user's file may put another one first (pyenv does).

if [ -f ~/.bashrc ]; then
	. ~/.bashrc
fi
PATH=$REUSEPORT_BIN:$PATH
