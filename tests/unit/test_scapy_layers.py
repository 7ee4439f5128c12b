# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What the import of scapy leaves out, and that it leaves the cache of the user's scapy alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

IMPORTED = """
import sys
from harness.wire.scapy_layers import IP, UDP, Ether
from scapy.config import conf
from scapy.main import SCAPY_CACHE_FOLDER
assert not list(conf.manufdb)
assert not {"scapy.libs.manuf", "scapy.libs.bluetoothids"} & set(sys.modules)
print(SCAPY_CACHE_FOLDER)
print(bytes(Ether(src="00:00:5e:00:53:01", dst="00:00:5e:00:53:02") / IP() / UDP()).hex()[:24])
"""


def test_manufacturers_are_not_loaded_and_nothing_is_cached(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED],
        cwd=ROOT,
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(tmp_path / "scapy"), "00005e00530200005e005301"]
    assert list(tmp_path.rglob("*.pickle")) == []
