# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Cut the verifier's log to what says why it refused a program. Pure."""

from __future__ import annotations

import re

MOST_LINES = 24
"""Lines of the log that are shown, the last ones: the verifier ends with the instruction that it refused."""

_FRAME = re.compile(r"-- (BEGIN|END) PROG LOAD LOG --")
_CHATTER = re.compile(
    r"libbpf: (prog '[^']*': (BPF program load failed|failed to load)|failed to load object)|processed \d+ insns|"
    r"(verification time|stack depth) |func#\d+ @\d+$|Live regs before insn:|\s+\d+: [.\d]{10} "
)
"""Lines that say nothing of the reason: libbpf's frame, the verifier's statistics."""


_LICENSE = "GPL-restricted function from non-GPL compatible program"
_ITS_REMEDY = 'state a license that is compatible with the GPL, as char _license[] SEC("license") = "GPL"; or without'


def cut_log(log: str) -> str:
    """Return the end of a verifier's log, with the last line of source before it; other messages as they are.

    Where the license is the reason, what to do about it follows.
    """
    remedy = f"\n{_ITS_REMEDY} that helper" if _LICENSE in log else ""
    return _end_of(log) + remedy


def _end_of(log: str) -> str:
    lines = [line.rstrip() for line in log.splitlines() if line.strip() and not _FRAME.search(line)]
    kept = [line for line in lines if not _CHATTER.match(line)]
    if len(kept) <= MOST_LINES:
        return "\n".join(kept)
    shown = kept[-MOST_LINES:]
    source = [line for line in kept[:-MOST_LINES] if line.startswith("; ")]
    left_out = f"[{len(kept) - MOST_LINES} lines of the verifier's log are left out]"
    return "\n".join([left_out, *source[-1:], *shown])
