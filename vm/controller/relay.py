# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Boot one kernel's VM, pass messages between pytest-xdist and the worker in it, and report how it ended.

xdist starts its workers one after the other and waits for each. If a worker were the VM itself, kernels would boot one
after the other too. So each worker is a process on the host, which is up at once, and boots its kernel while xdist goes
on. It sees every message, so it can tell when a VM hangs, and it outlives the VM, so it can say how that ended.
"""

from __future__ import annotations

import contextlib
import platform
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import execnet

from harness.interface.keys import OBJECTS
from vm.base.errors import KernelError, RemoteError
from vm.base.fingerprint import fingerprint
from vm.base.insides import open_gateway
from vm.base.paths import PROJECT, cache_root
from vm.boot.acceleration import boot_id
from vm.boot.booting import booted
from vm.boot.came_up import record_of
from vm.boot.machine import Greeting
from vm.boot.patience import Patience
from vm.boot.qemu import program
from vm.controller import protocol
from vm.controller.admission import capacity
from vm.controller.duty import Duty
from vm.controller.idle import be_idle
from vm.controller.link import LOOK_EVERY, Link
from vm.controller.protocol import BootRequest, End, Ending, Notice, Order, Progress
from vm.controller.watchdog import Watchdog
from vm.controller.worker_course import WorkerCourse
from vm.controller.xdist_protocol import Name, worker_source
from vm.guest import wire_format
from vm.kernels.catalogue import load_catalogue
from vm.kernels.obtain import obtain, select
from vm.remote.hosts import translate
from vm.remote.transfer import unpack

if TYPE_CHECKING:
    from collections.abc import Callable

    from vm.boot.booting import Booted
    from vm.boot.came_up import Record
    from vm.boot.machine import Machine
    from vm.kernels.kernel import Kernel

_SECONDS_TO_CLOSE = 5

_WITHOUT = [f"-pno:{name}" for name in ("cacheprovider", "doctest", "pastebin", "setuponly", "setupplan", "stepwise")]
"""Plugins of pytest that are useless in a guest: nobody sees what they print, and what they save is lost."""


def relay(channel: Any, workerinput: dict[str, Any], args: list[str], options: dict[str, Any], path: list[str]) -> None:
    """Be the xdist worker of one kernel: `channel` and the other arguments are those of xdist's own workers."""
    message, status_channel = workerinput.pop("vm"), workerinput.pop("status")
    here = Relay(Link(channel, status_channel))
    if message["fingerprint"] != fingerprint():
        # Another version may understand the order, and do something else.
        here.refuse(
            f"{PROJECT}/vm is not what the run was started with ({message['home']}/vm): "
            "it was changed during the run, or is another version. Run again with the same version everywhere"
        )
        return
    # A guest cannot write to the controller's temporary directory.
    options = {**options, "basetemp": None}
    order = Order.from_message(message)
    if order.directory is not None:
        args = translate(args, root=order.home, directory=order.directory)
        (word,) = translate([order.word], root=order.home, directory=order.directory)
        order = replace(order, word=word)
    here.run(order, (workerinput, [*args, *_WITHOUT], options, path))


class Relay:
    """The link to the controller on one side, the VM on the other."""

    _order: Order
    _patience: Patience
    _duty: Duty
    _up: Booted

    def __init__(self, link: Link) -> None:
        self._link = link
        self._ended = threading.Event()
        self._course = WorkerCourse()
        self._guest_is_up = False
        self._record: Record | None = None
        self._admitted = 0.0  # a time.monotonic()
        self._has_collected = False

    def run(self, order: Order, first: tuple[Any, ...]) -> None:
        """Boot, pass messages on, and tell the controller how the VM ended; `first` is for xdist's worker."""
        self._order, self._patience = order, Patience(order.timeout)
        self._duty = Duty(self._patience)
        self._link.listen()
        if self._order.idle:
            be_idle(self._link)
            return
        try:
            if self._order.refusal:
                raise RemoteError(self._order.refusal)
            if self._order.directory is not None:
                workerinput = first[0]
                workerinput[OBJECTS] = unpack(workerinput.get(OBJECTS, {}), cache_root() / "sent")
            ending = self._boot_and_serve(first)
        except KernelError as error:
            ending = Ending(how=End.INFRASTRUCTURE, why=str(error))
        except KeyboardInterrupt:
            self._link.stop.set()
        if self._link.stop.is_set():
            ending = Ending(how=End.STOPPED, why="the run was ended")
        elif self._record is not None and not self._has_collected:
            self._record.failed()
        self._link.send_status(ending)
        # Where a worker was up in the guest, xdist may have sent it cases: it takes them back from one that has died.
        never_up = ending.how is End.INFRASTRUCTURE and not self._guest_is_up
        if never_up or (self._link.retired and not self._course.finished):
            be_idle(self._link)

    def refuse(self, why: str) -> None:
        """Tell the controller why this relay cannot work for it."""
        self._link.listen()
        self._link.send_status(Ending(how=End.INFRASTRUCTURE, why=why))
        be_idle(self._link)

    def _boot_and_serve(self, first: tuple[Any, ...]) -> Ending:
        with self._link.interruptible():
            qemu = program()
            kernel = self._fetch()
        self._record = record_of(kernel, qemu=qemu, options=self._order.options)
        if not self._wait_for_admission():
            return Ending(how=End.STOPPED, why="the run was ended")
        greeting = Greeting(
            environment=_with_plugins(self._order.plugins),
            bytecode=self._order.bytecode if self._order.directory is None else None,
        )
        with contextlib.ExitStack() as until_served:
            with self._link.interruptible():
                up = until_served.enter_context(
                    booted(
                        kernel,
                        acceleration=self._order.acceleration,
                        options=self._order.options,
                        greeting=greeting,
                        observer=self,
                    )
                )
            self._up = up
            self._link.send_status(
                protocol.Booted(
                    release=up.hello.release,
                    version=kernel.version,
                    cmdline=up.hello.cmdline,
                    acceleration=up.vm.acceleration,
                    seconds=up.seconds,
                    notes=(*up.notes, *up.hello.notes),
                )
            )
            return self._serve(up.vm, first)

    # `vm.boot.booting.BootObserver`

    def console(self, part: bytes) -> None:
        """Send the controller a part of the console."""
        if not self._guest_is_up:
            # Before the worker is up, a VM that boots is heard of by its console alone.
            self._patience.renew()
        self._link.send_console(part)

    def progress(self, line: str) -> None:
        """Show how far the boot is."""
        self._link.send_status(Progress(phase="booting", detail=line))

    def tell(self, line: str) -> None:
        """Have the user read a line."""
        self._link.send_status(Notice(line=line))

    def patience(self, vm: Machine) -> Callable[[], bool]:
        """Return a function that returns whether to go on waiting for `vm`."""
        self._patience.watch(vm)

        def go_on() -> bool:
            if self._link.stop.is_set():
                raise KeyboardInterrupt
            return not self._patience.is_over

        return go_on

    def _fetch(self) -> Kernel:
        # The word, not what it stands for: paths, keyrings and the installed kernel are those of this machine.
        (selection,) = select([self._order.word], catalogue=load_catalogue())
        named = replace(selection, name=self._order.kernel)
        return obtain(named, progress=self._show_fetching, mirror=self._order.mirror)

    def _show_fetching(self, line: str) -> None:
        self._link.send_status(Progress(phase="fetching", detail=line))

    def _wait_for_admission(self) -> bool:
        """Wait until this host has room for the VM; return False if the run was ended meanwhile."""
        # One machine may have several names, and several machines the same one.
        host, room = f"{platform.node()} {boot_id()}", capacity(memory=self._order.options.memory)
        seconds = self._record.seconds if self._record is not None else None
        self._link.send_status(BootRequest(host=host, capacity=room, seconds_before=seconds))
        while not self._link.admitted.wait(LOOK_EVERY):
            if self._link.stop.is_set():
                return False
        self._admitted = time.monotonic()
        return True

    def _serve(self, vm: Machine, first: tuple[Any, ...]) -> Ending:
        """Run xdist's worker in the guest until it ends; return how it did."""
        watchdog = Watchdog(vm, self._patience, stop=self._link.stop, ended=self._ended)
        try:
            gateway = open_gateway(vm.port, name=self._order.kernel, execmodel="main_thread_only", has_execnet=True)
            guest = gateway.remote_exec(worker_source())
            guest.send(first)
            self._link.connect(
                guest, before_message=self._duty.take, on_message=self._from_guest, on_end=self._ended.set
            )
            self._guest_is_up = True
        except (EOFError, OSError) as error:
            self._ended.set()
            return self._ending(vm, f"its worker did not come up: {error}", hung=watchdog.hung)
        self._ended.wait()
        if self._link.stop.is_set():
            return Ending(how=End.STOPPED, why="the run was ended")
        if self._course.finished:
            gateway.exit()
            if not vm.wait(seconds=20):
                return Ending(how=End.DONE, why="it did not power off")
            return Ending(how=End.DONE, why="")
        raised, lost = _error_of(guest)
        if not watchdog.hung and (failure := self._course.failure(raised)):
            gateway.exit()
            vm.wait(seconds=20)
            how = End.WORKER_FAILED if self._course.began else End.INFRASTRUCTURE
            return Ending(how=how, why=failure[0], detail=failure[1])
        return self._ending(vm, lost, hung=watchdog.hung)

    def _ending(self, vm: Machine, error: str, *, hung: bool) -> Ending:
        """Return how a VM ended whose worker had not finished."""
        if hung:
            return Ending(how=End.HUNG, why=f"there was no news from it for {self._order.timeout:g} seconds")
        ended = vm.wait(seconds=10)
        if why := self._up.explain_end():
            return Ending(how=End.LOST, why=why)
        if not ended:
            return Ending(how=End.WORKER_DIED, why=error or "its worker ended, the VM did not")
        return Ending(how=End.LOST, why=error or "the VM ended")

    def _from_guest(self, message: Any) -> None:
        """Send the controller what xdist's worker says; called in execnet's thread."""
        for name, content in wire_format.unpack(message):
            self._duty.hear(name)
            if name == wire_format.ALONE:
                self._link.send_status(protocol.Alone(cases=tuple(content["cases"])))
                continue
            if name == Name.COLLECTED and self._record is not None:
                self._has_collected = True
                self._record.came_up(time.monotonic() - self._admitted)
            if self._course.hear(name, content):
                self._link.send(name, content)


def _error_of(guest: Any) -> tuple[str, str]:
    """Return what the code at the other end of a channel raised, and how the channel broke; "" each if not."""
    try:
        guest.waitclose(_SECONDS_TO_CLOSE)
    except execnet.RemoteError as error:
        return str(error), ""
    except OSError as error:  # of which the TimeoutError of channels is one
        return "", str(error)
    except EOFError:  # the connection broke, of which the console and QEMU say more
        pass
    return "", ""


def _with_plugins(names: list[str]) -> dict[str, str]:
    """Return the variables that make pytest load these plugins and not look for others.

    To look, it reads the entry points of every installed distribution.
    """
    return {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_PLUGINS": ",".join(names)}
