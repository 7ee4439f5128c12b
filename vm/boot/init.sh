#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# The first program in a guest, run by busybox in the initramfs that virtme-ng makes: load what shows the host's files,
# mount them, and go on with the command that /command sets. `vm.boot.machine` puts both in the place of virtme-ng's init,
# which mounts them without a cache: nearly every file that a guest reads it reads again and again.
# shellcheck source=/dev/null  # virtme-ng makes it
. /modules/load_all.sh
# shellcheck source=/dev/null  # vm.boot.machine makes it
. /command
if ! mount -n -t 9p -o ro,trans=virtio,version=9p2000.L,access=any,cache=loose,msize=524288 /dev/root /newroot; then
	echo "the host's files cannot be mounted"
	exit 1
fi
exec switch_root /newroot "$@"
