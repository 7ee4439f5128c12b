# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Keep the server's network settings, which every group in its namespace shares."""

from __future__ import annotations

from harness.wire.namespace import write_sysctl

_FAST_OPEN, _SYNCOOKIES = "net/ipv4/tcp_fastopen", "net/ipv4/tcp_syncookies"
_FAST_OPEN_SERVER_WITHOUT_COOKIE = 0x202  # TFO_SERVER_ENABLE | TFO_SERVER_COOKIE_NOT_REQD (include/net/tcp.h)
_ALWAYS = 2


class Settings:
    """Change sysctls of the present network namespace for a while; all of them start, and end, at 0."""

    def __init__(self, *, cpu: int) -> None:
        self.cpu = cpu
        """The CPU that the wire is bound to, on which every program runs."""
        self._values: dict[str, int] = {}
        for name in (_FAST_OPEN, _SYNCOOKIES):
            self.set(name, 0)

    def set(self, name: str, value: int) -> None:
        """Set a sysctl, named with slashes, if it is not that already."""
        if self._values.get(name) != value:
            write_sysctl(name, value)
            self._values[name] = value

    def restore(self) -> None:
        """Set everything that was changed to 0."""
        for name in self._values:
            self.set(name, 0)

    def allow_fast_open(self) -> None:
        """Take data in a SYN without a cookie (ip-sysctl: tcp_fastopen 0x202)."""
        self.set(_FAST_OPEN, _FAST_OPEN_SERVER_WITHOUT_COOKIE)

    def send_syncookies(self) -> None:
        """Answer every SYN with a cookie (ip-sysctl: tcp_syncookies 2)."""
        self.set(_SYNCOOKIES, _ALWAYS)

    @property
    def fast_open(self) -> bool:
        """Tell whether data in a SYN is taken."""
        return self._values[_FAST_OPEN] == _FAST_OPEN_SERVER_WITHOUT_COOKIE

    @property
    def syncookies(self) -> bool:
        """Tell whether every SYN is answered with a cookie."""
        return self._values[_SYNCOOKIES] == _ALWAYS
