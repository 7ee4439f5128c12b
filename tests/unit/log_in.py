# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Be the shell of a machine that is a directory: go there and run the command that ssh was given.

$MACHINES is where the machines are, $MACHINE which one, $VM what boots there, $SSH_ORIGINAL_COMMAND the command.
"""

import os
from pathlib import Path

name = os.environ["MACHINE"]
home = Path(os.environ["MACHINES"], name)
os.chdir(home)
if name == "chatty":
    print("Welcome!", flush=True)
environment = {
    "HOME": str(home),
    "PATH": os.environ["PATH"],
    "REUSEPORT_VM_COMMAND": os.environ["VM"],
    "XDG_CACHE_HOME": f"{home}/cache",
}
os.execve("/bin/sh", ["sh", "-c", os.environ["SSH_ORIGINAL_COMMAND"]], environment)
