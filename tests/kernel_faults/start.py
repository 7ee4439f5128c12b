# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Start pytest in the guest: python -m tests.kernel_faults.start FILE [ARGUMENT…].

FILE has the bytecode of the modules, of `vm.guest.bytecode`; they are imported from there if it is there.
"""

import sys

from vm.guest.bytecode import install

if __name__ == "__main__":
    install(sys.argv.pop(1))
    import pytest

    sys.exit(pytest.console_main())
