# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What execnet runs in a kernel's worker process on the host, in place of xdist's own `xdist.remote`.

Its source travels, so that the process may be on another machine; the rest is imported there.
"""

# mypy: disable-error-code="name-defined"

if __name__ == "__channelexec__":
    import sys

    workerinput, args, options, sys_path = channel.receive()  # noqa: F821
    here = workerinput["vm"]["directory"]
    if here is None:
        # The controller's machine: the same interpreter, which is to find the same modules. xdist's copy of the path
        # is older than what conftest.py put there, and an installation of the project elsewhere would be found first.
        home = workerinput["vm"]["home"]
        sys_path = [home, *(entry for entry in sys_path if entry != home)]
        sys.path[:] = sys_path
    else:
        import os

        os.chdir(here)
        sys.path.insert(0, here)
        sys_path = list(sys.path)

    from vm.controller.relay import relay

    relay(channel, workerinput, args, options, sys_path)  # noqa: F821
