# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Stand in for QEMU: print a console, speak the protocol of vm.guest.pid1 on the port, and run the worker right here.

So does a command, of which the console tells the status in the end.

The last argument is the port's file descriptor. The kernel's name says what goes wrong, if anything:

    dies        the kernel panics before it can say hello
    silent      it never says hello
    panics      its command ends, and not a word about it comes after
    mute        it boots, but nothing of what is written to its kernel log reaches the console
    lonely      its first VM boots; one beside that panics before it can say hello
"""

import json
import os
import sys
import time

number = sys.argv[-1]
kernel = os.environ.get("REUSEPORT_KERNEL", "")
print("[    0.000000] Linux version 6.1.0 (builder@example)", flush=True)
if kernel == "dies" or (kernel == "lonely" and os.environ["REUSEPORT_VM"] != "1"):
    print("[    1.234567] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)", flush=True)
    sys.exit()
if kernel == "silent":
    time.sleep(600)

port = int(number)
os.write(port, json.dumps({"release": "6.1.0-fake", "cmdline": "quiet", "notes": []}).encode() + b"\n")
line = b""
while not line.endswith(b"\n"):
    line += os.read(port, 1)
wanted = json.loads(line)
log = os.open(os.devnull, os.O_WRONLY) if kernel == "mute" else os.dup(1)
os.environ.update(wanted["environment"], REUSEPORT_KMSG=f"/proc/self/fd/{log}")
os.chdir(wanted["directory"])
if wanted["command"]:
    child = os.fork()
    if child == 0:
        os.setsid()
        for descriptor in (0, 1, 2):
            os.dup2(port, descriptor)
        os.execvp(wanted["command"][0], wanted["command"])
    _, status = os.wait()
    if kernel != "panics":
        print(f"[    9.000000] reuseport-harness: ended with status {os.waitstatus_to_exitcode(status)}", flush=True)
    sys.exit()
os.dup2(port, 0)
os.dup2(port, 1)
exec(eval(sys.stdin.readline()))
