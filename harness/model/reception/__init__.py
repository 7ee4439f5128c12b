# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What the kernel does with a frame until a socket is looked up, byte by byte. Pure.

It knows frames, and not how they were made.

`link` strips VLAN tags, `ipv4` and `ipv6` check headers, `options` and `extensions` what may be in them, `fragments`
reassembles, `transport` is UDP and TCP, and `expected` puts a group behind it. Each function names the kernel's, and
`Reception.taken` counts which way packets went.
"""
