# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Errors on the way from a user's word for a kernel to a VM that runs it."""


class KernelError(Exception):
    """A kernel that cannot be fetched or run. The message says which, why, and what to do: it is printed as it is."""


class UnknownKernelError(KernelError):
    """A word that names no kernel; the message lists the words that do."""


class NotAKernelError(KernelError):
    """A path without a kernel that can boot."""


class TooOldError(KernelError):
    """A kernel older than the project supports; the message names what it lacks."""


class FetchError(KernelError):
    """A kernel that is not in the store and could not be fetched. It says nothing about the kernel."""


class MirrorError(FetchError):
    """A mirror that is unknown or out of reach, or whose connection broke."""


class SignatureError(FetchError):
    """A release file or a package that the archive's keys did not sign."""


class NotOfferedError(FetchError):
    """A package that the mirror does not have, or has no longer."""


class StoreError(FetchError):
    """A directory for kernels that cannot be read or written: the disk is full, or this user may not."""


class DamagedListsError(StoreError):
    """Downloaded package lists that cannot be read."""


class MissingToolError(FetchError):
    """A program that is not installed; the message names the package that has it."""


class BuildError(KernelError):
    """A kernel tree that could not be built; the message has the end of the compiler's output."""


class HostError(KernelError):
    """A build that failed for want of memory or disk. It says nothing about the kernel tree."""


class RemoteError(KernelError):
    """A machine of --on that cannot be used. It says nothing about the kernel."""


class OptionError(KernelError):
    """An option with a value that cannot be used."""


class MachineError(KernelError):
    """A VM that did not boot as far as its first case."""
