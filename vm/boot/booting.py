# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Boot a kernel as far as its worker's hello: under KVM where that may work, and emulated where it does not.

This boot shows whether KVM works. If it fails the same kernel is emulated, in the same run. A kernel that boots neither
way does not boot, and nothing is learnt about KVM.
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
from vm.boot.console_end import ConsoleEnd, complaint
from vm.boot.patience import Clock
from vm.boot.qemu import program
from vm.kernels.kernel import missing_options
from vm.report.console import KVM_FAILED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from vm.boot.acceleration import Acceleration
    from vm.boot.learnt import Boot
    from vm.boot.machine import Greeting, Hello, Machine
    from vm.boot.options import GuestOptions
    from vm.kernels.kernel import Kernel
    from vm.kernels.requirements import MissingOption

SILENCE = 10.0
"""Seconds without a byte on the console after which a boot under KVM has stopped.

An emulated boot of Debian's 6.1 on two cores is silent for 1.9 s at most (the first process reads Python through 9p),
2.8 s with three other processes on each core; KVM that works takes a tenth of that. A paravirtual KVM that does not
work was silent for 17 s twice before it gave up.
"""

CRAWL = 30.0
"""Seconds without the guest's hello after which a boot under KVM is slower than emulation, whatever it prints.

An emulated guest says hello 4.4 s after QEMU's start on two idle cores, 6.9 s on busy ones. A kernel with KASAN and
lockdep takes several times as long, and emulated several times longer still: the limit must not end its boot.
"""

NEWS_EVERY = 4.0
"""Seconds after which the progress line of a booting kernel changes."""


class BootObserver(Protocol):
    """The methods that `booted` calls while a kernel boots."""

    def console(self, part: bytes) -> None:
        """Take a part of the console; called in threads."""

    def progress(self, line: str) -> None:
        """Show how far the boot is."""

    def tell(self, line: str) -> None:
        """Show a line that stays."""

    def patience(self, vm: Machine) -> Callable[[], bool]:
        """Return a function that returns whether to go on waiting for `vm`, which has just been started."""


@dataclass(frozen=True, kw_only=True)
class Booted:
    """A VM whose guest has said hello."""

    vm: Machine
    hello: Hello
    seconds: float  # from QEMU's preparation to hello
    notes: tuple[str, ...]  # why it is emulated although there is a KVM; options that its configuration lacks
    _boot: Boot | None

    def explain_end(self) -> str:
        """Return what QEMU reported about the end of its VM, "" if nothing; remember it if KVM failed."""
        if not self.vm.is_paused:
            return ""
        why = _with_detail(self.vm.trouble, complaint(self.vm.complaints))
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
    observer: BootObserver,
    follow_files: bool = False,
) -> Iterator[Booted]:
    """Boot `kernel` and yield its VM, which ends with the context.

    `acceleration` is the user's choice, None if there is none. Raises MachineError.
    """
    missing = missing_options(kernel)
    if SUBSTITUTE not in os.environ:
        _demand_bootable(kernel, missing)
    boot = _identify(kernel, options)
    attempt = _Attempt(
        kernel,
        boot,
        notes=tuple(map(str, missing)),
        options=options,
        greeting=greeting,
        observer=observer,
        follow_files=follow_files,
    )
    observer.progress(kernel.release)
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


def _demand_bootable(kernel: Kernel, missing: Sequence[MissingOption]) -> None:
    """Raise MachineError for a kernel whose configuration lacks an option that every guest needs."""
    if fatal := [option for option in missing if option.fatal]:
        raise MachineError(f"{kernel.name} cannot run as a guest. Its configuration lacks {'; '.join(map(str, fatal))}")


def _identify(kernel: Kernel, options: GuestOptions) -> Boot | None:
    """Return what identifies this boot under KVM, None without KVM."""
    if why_no_kvm():
        return None
    qemu = program()
    with contextlib.suppress(OSError):
        return learnt.identify(kernel, qemu=qemu, append=options.append)
    return None


def _choose(boot: Boot | None, wanted: Acceleration | None) -> Choice:
    if wanted == "kvm" and (why := why_no_kvm()):
        raise MachineError(f"--accel kvm: {why}")
    return choose(boot, learnt.recall()) if wanted is None else Choice(acceleration=wanted)


class _Attempt:
    """The boot of a kernel under KVM, and the emulated one if that fails: what both have in common."""

    def __init__(
        self,
        kernel: Kernel,
        boot: Boot | None,
        *,
        notes: tuple[str, ...],
        options: GuestOptions,
        greeting: Greeting,
        observer: BootObserver,
        follow_files: bool,
    ) -> None:
        self._kernel, self._boot, self._notes = kernel, boot, notes
        self._options, self._greeting, self._observer = options, greeting, observer
        self._follow_files = follow_files

    def emulate_instead(self, why: str) -> Booted:
        """Boot emulated after KVM failed; the console gets a line between the two."""
        self._observer.console(f"\n{KVM_FAILED}{why}\n".encode())
        self._observer.tell(f"KVM failed, and the run goes on emulated: {why}")
        self._observer.progress(f"{self._kernel.release}, emulated")
        try:
            return self.make(Choice(acceleration="tcg", why=f"KVM failed: {why}"))
        except MachineError as error:
            raise MachineError(f"{error}; nor did it come up under KVM: {why}") from None

    def make(self, choice: Choice, *, insists: bool = False) -> Booted:
        """Boot once. Raises _KvmError if that fails under KVM, which may be the cause, and MachineError otherwise."""
        kernel, kvm = self._kernel, choice.acceleration == "kvm"
        end, started = ConsoleEnd(), time.monotonic()

        def take(part: bytes) -> None:
            end.add(part)
            self._observer.console(part)

        vm = machine.start(
            kernel,
            acceleration=choice.acceleration,
            options=self._options,
            console=take,
            follow_files=self._follow_files,
        )
        progress = _Progress(vm, end, since=started)
        patience = self._observer.patience(vm)

        def go_on() -> bool:
            if kvm:
                progress.demand(crawl=None if insists else CRAWL)
            if news := progress.news():
                self._observer.progress(f"{kernel.release}, {news}")
            return patience()

        try:
            hello = vm.greet(self._greeting, patience=go_on)
        except MachineError as error:
            vm.kill()
            if kvm:
                raise _KvmError(_why_kvm_failed(vm, end, str(error))) from None
            raise MachineError(_with_detail(str(error), complaint(vm.complaints))) from None
        except BaseException:
            vm.kill()
            raise
        return Booted(
            vm=vm,
            hello=hello,
            seconds=round(time.monotonic() - started, 2),
            notes=(*((f"emulated: {choice.why}",) if choice.why else ()), *self._notes),
            _boot=self._boot,
        )


class _Progress:
    """How far a boot is, and whether it goes on."""

    def __init__(self, vm: Machine, end: ConsoleEnd, *, since: float) -> None:
        """Begin to count; the boot has been shown to the user since `since`, a time.monotonic()."""
        self._end, self._clock = end, Clock(vm)
        self._count = end.count
        self._started = self._heard = self._clock.now()
        self._begun = self._shown = since

    def demand(self, *, crawl: float | None) -> None:
        """Raise MachineError if the boot has stopped, or takes longer than `crawl` seconds."""
        now = self._clock.now()
        if self._end.count != self._count:
            self._count, self._heard = self._end.count, now
        if now - self._heard > SILENCE:
            nothing = f"nothing on its console for {SILENCE:.0f} s"
            raise MachineError(f"{nothing} after '{self._end.line}'" if self._end.line else nothing)
        if crawl is not None and now - self._started > crawl:
            raise MachineError(f"still booting after {crawl:.0f} s, at '{self._end.line}'")

    def news(self) -> str:
        """Return how long the boot has taken and the console's last line, "" if it is too early to show that again."""
        now = time.monotonic()
        if now - self._shown < NEWS_EVERY:
            return ""
        self._shown = now
        return f"{now - self._begun:.0f} s: {self._end.line or 'nothing on its console yet'}"


class _KvmError(MachineError):
    """A boot under KVM that failed."""


def _why_kvm_failed(vm: Machine, end: ConsoleEnd, error: str) -> str:
    """Return why a boot under KVM failed: from QEMU's report, its exit status, and the console."""
    if end.panic and not vm.is_paused:
        return end.panic
    what = vm.trouble or _status(vm.process.returncode) or error
    return _with_detail(what, complaint(vm.complaints))


def _status(status: int) -> str:
    """Return how QEMU ended, "" if this process killed it."""
    if status == -signal.SIGKILL:
        return ""
    if status < 0:
        return f"QEMU was ended by {signal.Signals(-status).name}"
    return f"QEMU ended with status {status}"


def _with_detail(what: str, detail: str) -> str:
    return f"{what}: {detail}" if detail else what
