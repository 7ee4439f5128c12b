# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What cases set for the server's namespace: its sysctls, which all groups in it share, and the CPU."""

from __future__ import annotations

from harness.wire.namespace import write_sysctl

_FAST_OPEN, _SYNCOOKIES = "net/ipv4/tcp_fastopen", "net/ipv4/tcp_syncookies"
# include/net/tcp.h: TFO_SERVER_ENABLE, TFO_SERVER_COOKIE_NOT_REQD
_FAST_OPEN_SERVER, _FAST_OPEN_SERVER_WITHOUT_COOKIE = 0x2, 0x202
_ALWAYS = 2


class Settings:
    """What cases set: the CPU, and sysctls of the present namespace, all of them 0 at first and after `restore`."""

    def __init__(self, *, cpu: int) -> None:
        self.cpu = cpu
        """The CPU that the wire is bound to and every program runs on."""
        self._values: dict[str, int] = {}
        for name in (_FAST_OPEN, _SYNCOOKIES):
            self.set(name, 0)

    def set(self, name: str, value: int) -> None:
        """Set a sysctl, named with slashes and 0 by default, unless it has that value already."""
        if self._values.get(name) != value:
            write_sysctl(name, value)
            self._values[name] = value

    def restore(self) -> None:
        """Set every sysctl that was changed to 0."""
        for name in self._values:
            self.set(name, 0)

    def allow_fast_open(self, *, with_cookie: bool = False) -> None:
        """Accept data in a SYN, with or without a cookie (ip-sysctl: tcp_fastopen 0x2 and 0x202)."""
        self.set(_FAST_OPEN, _FAST_OPEN_SERVER if with_cookie else _FAST_OPEN_SERVER_WITHOUT_COOKIE)

    def send_syncookies(self) -> None:
        """Answer every SYN with a cookie (ip-sysctl: tcp_syncookies 2)."""
        self.set(_SYNCOOKIES, _ALWAYS)

    @property
    def fast_open(self) -> bool:
        """Return whether data in a SYN is accepted without a cookie."""
        return self._values[_FAST_OPEN] == _FAST_OPEN_SERVER_WITHOUT_COOKIE

    @property
    def fast_open_needs_cookie(self) -> bool:
        """Return whether data in a SYN is accepted with a cookie alone."""
        return self._values[_FAST_OPEN] == _FAST_OPEN_SERVER

    @property
    def syncookies(self) -> bool:
        """Return whether every SYN is answered with a cookie."""
        return self._values[_SYNCOOKIES] == _ALWAYS
