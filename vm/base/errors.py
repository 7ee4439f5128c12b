# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What can go wrong between a user's word for a kernel and something that boots."""


class KernelError(Exception):
    """Say which kernel could not be had, why, and what to do about it.

    The message is complete: a caller prints it and adds nothing.
    """


class UnknownKernelError(KernelError):
    """Say that a word is neither a series of the catalogue nor a path, and list the words that are."""


class NotAKernelError(KernelError):
    """Say why a path holds no kernel that can be booted."""


class TooOldError(KernelError):
    """Say what a kernel that is older than the project supports does not have."""


class FetchError(KernelError):
    """Say why a kernel that is not in the store could not be fetched: the infrastructure's fault, never a case's."""


class MirrorError(FetchError):
    """Say that the mirror is unreachable, stalled, or broke off."""


class SignatureError(FetchError):
    """Say that a release file or a package is not what the archive's keys vouch for."""


class NotOfferedError(FetchError):
    """Say that the mirror does not have (or has no longer) a package of the series."""


class StoreError(FetchError):
    """Say why the store could not be written: full disk, no permission."""


class DamagedListsError(StoreError):
    """Say that package lists that were downloaded cannot be read."""


class MissingToolError(FetchError):
    """Name a program that is not installed and the package that has it."""


class BuildError(KernelError):
    """Say why a kernel tree could not be built, with the end of the compiler's output."""


class HostError(KernelError):
    """Say what this machine, not the kernel tree, has too little of for a build."""


class RemoteError(KernelError):
    """Say why a machine of --on cannot be used: the infrastructure's fault, never a case's."""


class OptionError(KernelError):
    """Say which option asks for a VM that cannot be, and why."""


class MachineError(KernelError):
    """Say why a VM did not come up: the infrastructure's fault, never a case's."""
