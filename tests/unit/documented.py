# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Read the commands that README.md, docs/ and the other pages give their readers, and how tox runs the cases."""

from __future__ import annotations

import configparser
import re
import shlex
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "changelog.d/README.md",
    *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")),
)
"""What is read to be followed; what changed in the past may name commands that are gone."""

_FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_BEGINS = re.compile(
    r"(\./bootstrap|\S*/bisect|tox -e|git bisect (start|run)|\S*kunit\.py|python3? -m|\.tox/\S+|towncrier) \S"
    r"|(sudo|dpkg-deb|ip|apt\S*|make -C|vng|\S*run_kselftest\.sh) "
)


def commands(page: str) -> list[str]:
    """Return what a page tells its reader to type: lines of its blocks and code within its sentences, in order."""
    text = (ROOT / page).read_text()
    lines = [line for block in _FENCED.findall(text) for line in block.splitlines()[1:-1]]
    text = _FENCED.sub("", text)
    lines += re.findall(r"^ {4}(\S.*)$", text, flags=re.MULTILINE)
    lines += [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", text)]
    return [line.partition("  #")[0].split("   ")[0].rstrip() for line in lines if _BEGINS.match(line)]


def as_on_this_kernel(command: str) -> list[str]:
    """Return the words that do on the running kernel, by this Python, what a `tox -e vm` or `-e host` command does."""
    option, environment, *given = shlex.split(command.removeprefix("./bootstrap ").removeprefix("tox "))
    assert (option, environment) in {("-e", "vm"), ("-e", "host")}, command
    cases = setting("testenv", "cases").replace("{tox_root}", str(ROOT)).split()
    host = setting("testenv:host", "commands").split()
    assert (cases[0], host[0], host[-1]) == ("python", "{[testenv]cases}", "{posargs}")
    return [sys.executable, *cases[1:], *host[1:-1], *given[1:]]


def setting(section: str, name: str) -> str:
    """Return a setting of tox.ini as it stands there."""
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini")
    return tox[section][name]
