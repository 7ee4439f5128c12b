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


def cut_log(log: str) -> str:
    """Return the end of a verifier's log, with the last line of source before it; other messages as they are."""
    lines = [line.rstrip() for line in log.splitlines() if line.strip() and not _FRAME.search(line)]
    kept = [line for line in lines if not _CHATTER.match(line)]
    if len(kept) <= MOST_LINES:
        return "\n".join(kept)
    shown = kept[-MOST_LINES:]
    source = [line for line in kept[:-MOST_LINES] if line.startswith("; ")]
    left_out = f"[{len(kept) - MOST_LINES} lines of the verifier's log are left out]"
    return "\n".join([left_out, *source[-1:], *shown])
