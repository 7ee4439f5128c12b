# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Stand in for ssh where no sshd is: reach the directories in $MACHINES, and fail as ssh does."""

import os
import sys
from pathlib import Path

*options, host, command = sys.argv[1:]
if any(option != "-o" and "=" not in option for option in options):
    sys.exit(f"unknown options: {options}")
name = host.rpartition("@")[2]
if name == "refusing":
    sys.stderr.write("ssh: connect to host refusing port 22: Connection refused\n")
    sys.exit(255)
if not Path(os.environ["MACHINES"], name).is_dir():
    sys.stderr.write(f"ssh: Could not resolve hostname {name}: Name or service not known\n")
    sys.exit(255)
os.environ.update(MACHINE=name, SSH_ORIGINAL_COMMAND=command)
os.execv(sys.executable, [sys.executable, "-S", str(Path(__file__).with_name("log_in.py"))])
