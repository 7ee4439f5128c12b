# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The life of sockets that share a port, as the kernel lives it. Pure: read it to learn what a group goes through.

`state` is what the kernel keeps, `steps` and `segments` what a user and a peer may do, `groups`, `sockets`,
`listeners`, `ports` and `slots` what each of that changes, `lookup` and `listening` which socket a packet finds,
`requests` what becomes of a connection between SYN and ACK, `foreign` and `sockmap` what else slots may hold. Each
transition is named after the kernel's function, and notes that it was taken. `Behaviour` is where kernels differ: what
a bug of the ledger changes is a variation of the model.
"""
