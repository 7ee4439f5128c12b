# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Bring a kernel up to its worker's hello: under KVM where that may work, and emulated where it does not.

The boot of the kernel that is to be tested is itself what shows whether KVM works. Where it fails there, the same
kernel is emulated, in the same run. A kernel that comes up neither way does not boot, and nothing is said about KVM.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from vm.base.errors import MachineError
from vm.boot import learnt, machine
from vm.boot.acceleration import SUBSTITUTE, Choice, choose, why_no_kvm
from vm.boot.last_words import LastWords, complaint
from vm.boot.patience import Clock
from vm.boot.qemu import find_qemu
from vm.report.console import KVM_FAILED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vm.boot.acceleration import Acceleration
    from vm.boot.learnt import Boot
    from vm.boot.machine import Greeting, Hello, Machine
    from vm.boot.options import GuestOptions
    from vm.kernels.obtain import Kernel

SILENCE = 10.0
"""Seconds without a byte on the console after which a boot under KVM has stopped.

An emulated boot of Debian's 6.1 on two cores is silent for 1.9 s at most (the first process reads Python through 9p),
2.8 s with three other processes on each core; KVM that works takes a tenth of that. A paravirtual KVM that does not
work was silent for 17 s twice before it gave up.
"""

CRAWL = 30.0
"""Seconds without the guest's hello after which a boot under KVM is slower than emulation, whatever it prints.

The emulated boot says hello 4.4 s after QEMU's start on two idle cores, 6.9 s on busy ones. A kernel with KASAN and
lockdep takes several times what a stock one takes, and emulated several times that: it is not to be given up early.
"""

WORDS_EVERY = 4.0
"""Seconds after which the line of a kernel that boots changes: nobody looks at the same one for more than five."""


class Audience(Protocol):
    """Whoever waits for a kernel to boot."""

    def console(self, part: bytes) -> None:
        """Take what the console says; called in threads."""

    def progress(self, line: str) -> None:
        """Show what the boot is at."""

    def tell(self, line: str) -> None:
        """Show a line that stays."""

    def patience(self, vm: Machine) -> Callable[[], bool]:
        """Return what tells, whenever it is asked, whether to go on waiting for `vm`, which has just been started."""


@dataclass(frozen=True, kw_only=True)
class Booted:
    """Hold a VM whose guest has said hello."""

    vm: Machine
    hello: Hello
    seconds: float  # from QEMU's preparation to hello
    notes: tuple[str, ...]  # why it is emulated although there is a KVM
    _boot: Boot | None

    def obituary(self) -> str:
        """Return what QEMU told of the end of its VM, "" if nothing; remember a KVM that failed."""
        if not self.vm.is_paused:
            return ""
        why = _with_words(self.vm.trouble, complaint(self.vm.complaints))
        if self._boot is not None:
            learnt.learn(self._boot, works=False, why=why)
        return why


@contextlib.contextmanager
def booted(
    kernel: Kernel,
    *,
    acceleration: Acceleration | None,
    options: GuestOptions,
    greeting: Greeting,
    audience: Audience,
    follow_files: bool = False,
) -> Iterator[Booted]:
    """Boot `kernel` and yield its VM, which ends with the context.

    `acceleration` is what the user insists on. Raises MachineError.
    """
    boot = _identify(kernel, options)
    attempt = _Attempt(kernel, boot, options=options, greeting=greeting, audience=audience, follow_files=follow_files)
    audience.progress(kernel.release)
    try:
        up = attempt.make(_choose(boot, acceleration), insists=acceleration == "kvm")
    except _KvmError as failure:
        if acceleration == "kvm":
            raise MachineError(f"{kernel.name} does not boot under KVM: {failure} (--accel tcg emulates it)") from None
        up = attempt.emulate_instead(str(failure))
        if boot is not None:
            learnt.learn(boot, works=False, why=str(failure))
    try:
        if boot is not None and up.vm.acceleration == "kvm":
            learnt.learn(boot, works=True)
        yield up
    finally:
        up.vm.kill()


def _identify(kernel: Kernel, options: GuestOptions) -> Boot | None:
    """Return what can be learnt about, None where there is no KVM to learn about."""
    if why_no_kvm():
        return None
    qemu = os.environ.get(SUBSTITUTE, "").partition(" ")[0] or find_qemu()
    with contextlib.suppress(OSError):
        return learnt.identify(kernel, qemu=qemu, append=options.append)
    return None


def _choose(boot: Boot | None, wanted: Acceleration | None) -> Choice:
    if wanted == "kvm" and (why := why_no_kvm()):
        raise MachineError(f"--accel kvm: {why}")
    return choose(boot, learnt.recall()) if wanted is None else Choice(acceleration=wanted)


class _Attempt:
    """Hold what two boots of a kernel have in common."""

    def __init__(
        self,
        kernel: Kernel,
        boot: Boot | None,
        *,
        options: GuestOptions,
        greeting: Greeting,
        audience: Audience,
        follow_files: bool,
    ) -> None:
        self._kernel, self._boot = kernel, boot
        self._options, self._greeting, self._audience = options, greeting, audience
        self._follow_files = follow_files

    def emulate_instead(self, why: str) -> Booted:
        """Boot emulated what did not come up under KVM; its console begins anew."""
        self._audience.console(f"\n{KVM_FAILED}{why}\n".encode())
        self._audience.tell(f"KVM failed, and the run goes on emulated: {why}")
        self._audience.progress(f"{self._kernel.release}, emulated")
        try:
            return self.make(Choice(acceleration="tcg", why=f"KVM failed: {why}"))
        except MachineError as error:
            raise MachineError(f"{error}; nor did it come up under KVM: {why}") from None

    def make(self, choice: Choice, *, insists: bool = False) -> Booted:
        """Boot once. Raises _KvmError for what KVM may be the cause of."""
        kernel, kvm = self._kernel, choice.acceleration == "kvm"
        words, started = LastWords(), time.monotonic()

        def hear(part: bytes) -> None:
            words.hear(part)
            self._audience.console(part)

        vm = machine.start(
            kernel,
            acceleration=choice.acceleration,
            options=self._options,
            console=hear,
            follow_files=self._follow_files,
        )
        watch = Watch(vm, words, since=started)
        patience = self._audience.patience(vm)

        def go_on() -> bool:
            if kvm:
                watch.demand_progress(crawl=None if insists else CRAWL)
            if news := watch.news():
                self._audience.progress(f"{kernel.release}, {news}")
            return patience()

        try:
            hello = vm.greet(self._greeting, patience=go_on)
        except MachineError as error:
            vm.kill()
            if kvm:
                raise _KvmError(_explain(vm, words, str(error))) from None
            raise MachineError(_with_words(str(error), complaint(vm.complaints))) from None
        except BaseException:
            vm.kill()
            raise
        return Booted(
            vm=vm,
            hello=hello,
            seconds=round(time.monotonic() - started, 2),
            notes=(f"emulated: {choice.why}",) if choice.why else (),
            _boot=self._boot,
        )


class Watch:
    """Hold a boot against what a boot takes."""

    def __init__(self, vm: Machine, words: LastWords, *, since: float) -> None:
        """Begin to count; `since`, a time.monotonic(), the boot has been shown."""
        self._words, self._clock = words, Clock(vm)
        self._count = words.count
        self._started = self._heard = self._clock.now()
        self._begun = self._shown = since

    def demand_progress(self, *, crawl: float | None) -> None:
        """Raise MachineError if it has stopped, or not come up in `crawl` seconds."""
        now = self._clock.now()
        if self._words.count != self._count:
            self._count, self._heard = self._words.count, now
        if now - self._heard > SILENCE:
            nothing = f"nothing on its console for {SILENCE:.0f} s"
            raise MachineError(f"{nothing} after '{self._words.line}'" if self._words.line else nothing)
        if crawl is not None and now - self._started > crawl:
            raise MachineError(f"still booting after {crawl:.0f} s, at '{self._words.line}'")

    def news(self) -> str:
        """Return how long it has taken and its last words, whenever it is time to show that again."""
        now = time.monotonic()
        if now - self._shown < WORDS_EVERY:
            return ""
        self._shown = now
        return f"{now - self._begun:.0f} s: {self._words.line or 'nothing on its console yet'}"


class _KvmError(MachineError):
    """Say how a boot under KVM failed."""


def _explain(vm: Machine, words: LastWords, error: str) -> str:
    """Return why a boot under KVM failed, from what QEMU told, how it ended, and what the console says."""
    if words.panic and not vm.is_paused:
        return words.panic
    what = vm.trouble or _status(vm.process.returncode) or error
    return _with_words(what, complaint(vm.complaints))


def _status(status: int) -> str:
    """Return how QEMU ended; nothing if that was by this process."""
    if status == -signal.SIGKILL:
        return ""
    if status < 0:
        return f"QEMU was ended by {signal.Signals(-status).name}"
    return f"QEMU ended with status {status}"


def _with_words(what: str, words: str) -> str:
    return f"{what}: {words}" if words else what
