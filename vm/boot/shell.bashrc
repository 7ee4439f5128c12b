# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# What `python -m vm shell` has bash read: the user's own file, which may put another Python first (pyenv does), and
# then the Python that the command ran with.

if [ -f ~/.bashrc ]; then
	. ~/.bashrc
fi
PATH=$REUSEPORT_BIN:$PATH
