# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The code of a kernel's worker process on the host, in place of xdist's own `xdist.remote`.

execnet sends this source, so the process may be on another machine; it imports the rest there.
"""

# mypy: disable-error-code="name-defined"

if __name__ == "__channelexec__":
    import sys

    workerinput, args, options, sys_path = channel.receive()  # noqa: F821
    here = workerinput["vm"]["directory"]
    if here is None:
        # The controller's machine. The project's directory comes first in the path, or another installation of the
        # project would be found; xdist has copied the path before conftest.py changed it.
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
