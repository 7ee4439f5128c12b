#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# The first program in a guest, run by busybox in the initramfs that virtme-ng makes: load the modules for the
# host's files, mount them, and run the command that /command sets. `vm.boot.qemu_command` puts both into the initramfs.
# virtme-ng's own init mounts the files without a cache, and a guest reads nearly every file several times.
# shellcheck source=/dev/null  # virtme-ng makes it
. /modules/load_all.sh
# shellcheck source=/dev/null  # vm.boot.qemu_command makes it
. /command
if ! mount -n -t 9p -o ro,trans=virtio,version=9p2000.L,access=any,cache=loose,msize=524288 /dev/root /newroot; then
	echo "the host's files cannot be mounted"
	exit 1
fi
exec switch_root /newroot "$@"
