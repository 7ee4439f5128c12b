# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Stand between pytest-xdist and a worker inside a VM: boot it, pass on what both say, and know how it ended.

xdist brings its workers up one after the other and waits for each, so a worker that were the VM itself would make
the kernels boot in a row. Instead each worker is this process, which is up at once; it fetches and boots its kernel
while xdist goes on. It also sees every message, which makes it the place of the watchdog, and it outlives the VM,
which makes it the witness of its end.

Two channels lead to the controller: xdist's, which carries what the guest's worker says, and `status`, on which this
process speaks for itself (`vm.controller.protocol`).
"""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import sys
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from harness.interface.keys import OBJECTS
from vm.base.errors import KernelError, RemoteError
from vm.base.fingerprint import fingerprint
from vm.base.paths import PROJECT, cache_root
from vm.boot.acceleration import boot_id
from vm.boot.booting import booted
from vm.boot.machine import Greeting
from vm.boot.patience import Patience
from vm.boot.qemu import demand_qemu
from vm.controller import protocol
from vm.controller.admission import capacity
from vm.controller.guest_worker import open_gateway, with_plugins, xdist_worker
from vm.controller.protocol import BootRequest, End, Ending, Instruction, Notice, Order, Progress, Status
from vm.guest import wire_format
from vm.kernels.catalogue import load_catalogue
from vm.kernels.obtain import obtain, select
from vm.remote.hosts import translate
from vm.remote.transfer import unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vm.boot.booting import Booted
    from vm.boot.machine import Machine
    from vm.kernels.kernel import Kernel

_LOOK_EVERY = 0.25  # seconds

_WITHOUT = [f"-pno:{name}" for name in ("cacheprovider", "doctest", "pastebin", "setuponly", "setupplan", "stepwise")]
"""Plugins of pytest's own that a guest has no use for: what they print nobody sees, what they keep is lost."""

_END_OF_MESSAGES = object()


def relay(channel: Any, workerinput: dict[str, Any], args: list[str], options: dict[str, Any], path: list[str]) -> None:
    """Be the xdist worker of one kernel, from `channel`'s first word to its last."""
    message, status_channel = workerinput.pop("vm"), workerinput.pop("status")
    here = Relay(channel, status_channel)
    if message["fingerprint"] != fingerprint():
        # The words of another version may be understood, and mean something else.
        here.refuse(
            f"{PROJECT}/vm is not what the run was started with ({message['home']}/vm): "
            "it changed meanwhile, or is another version. Run again with one version everywhere"
        )
        return
    # The controller's temporary directory is no business of a VM.
    options = {**options, "basetemp": None}
    order = Order.from_message(message)
    if order.directory is not None:
        args = translate(args, root=order.home, directory=order.directory)
        (word,) = translate([order.word], root=order.home, directory=order.directory)
        order = replace(order, word=word)
    here.run(order, (workerinput, [*args, *_WITHOUT], options, path))


class Relay:
    """Hold one worker's two channels and the VM between them."""

    _order: Order
    _patience: Patience
    _up: Booted

    def __init__(self, channel: Any, status_channel: Any) -> None:
        self._channel = channel
        self._status = status_channel
        self._stop = threading.Event()
        self._admitted = threading.Event()
        self._ended = threading.Event()
        self._worker_finished = False
        self._early: list[Any] | None = []  # what the controller said before there was a guest to tell it to
        self._guest: Any = None
        self._lock = threading.Lock()

    def run(self, order: Order, first: tuple[Any, ...]) -> None:
        """Boot, relay and tell the controller how it ended."""
        self._order, self._patience = order, Patience(order.timeout)
        self._listen()
        if self._order.idle:
            self._be_idle()
            return
        try:
            if self._order.refusal:
                raise RemoteError(self._order.refusal)
            if self._order.directory is not None:
                workerinput = first[0]
                workerinput[OBJECTS] = unpack(workerinput.get(OBJECTS, {}), cache_root() / "sent")
            ending = self._boot_and_relay(first)
        except KernelError as error:
            ending = Ending(how=End.INFRASTRUCTURE, why=str(error))
        except KeyboardInterrupt:
            self._stop.set()
        if self._stop.is_set():
            ending = Ending(how=End.STOPPED, why="the run was ended")
        self._say(ending)
        if ending.how is End.INFRASTRUCTURE:
            # A worker that dies would be replaced, time and again.
            self._be_idle()

    def refuse(self, why: str) -> None:
        """Tell the controller why this relay cannot work for it."""
        self._listen()
        self._say(Ending(how=End.INFRASTRUCTURE, why=why))
        self._be_idle()

    def _listen(self) -> None:
        # Ctrl-C reaches every process of the terminal; so does execnet's last resort for a worker that goes on.
        signal.signal(signal.SIGINT, lambda *_: self._be_interrupted())
        self._status.setcallback(self._told, endmarker=None)
        self._channel.setcallback(self._from_controller, endmarker=_END_OF_MESSAGES)

    def _be_interrupted(self) -> None:
        self._stop.set()
        if self._busy:
            raise KeyboardInterrupt

    _busy = False

    @contextlib.contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Do what takes long and never looks whether the run was ended: programs of others do the work."""
        self._busy = True
        try:
            if self._stop.is_set():
                raise KeyboardInterrupt
            yield
        finally:
            self._busy = False

    def _boot_and_relay(self, first: tuple[Any, ...]) -> Ending:
        with self._interruptible():
            demand_qemu()
            kernel = self._fetch()
        if not self._wait_for_admission():
            return Ending(how=End.STOPPED, why="the run was ended")
        greeting = Greeting(
            environment=with_plugins(self._order.plugins),
            bytecode=self._order.bytecode if self._order.directory is None else None,
        )
        with contextlib.ExitStack() as until_served:
            with self._interruptible():
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
            self._say(
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

    # What `booted` wants of its observer.

    def console(self, part: bytes) -> None:
        """Pass on what a console says."""
        if self._guest is None:
            # While it boots, its console is what is heard of it.
            self._patience.renew()
        self._status.send(("console", part))

    def progress(self, line: str) -> None:
        """Pass on what a boot is at."""
        self._say(Progress(phase="booting", detail=line))

    def tell(self, line: str) -> None:
        """Pass on what the user is to read."""
        self._say(Notice(line=line))

    def patience(self, vm: Machine) -> Callable[[], bool]:
        """Return what tells whether to go on waiting for `vm`."""
        self._patience.watch(vm)

        def go_on() -> bool:
            if self._stop.is_set():
                raise KeyboardInterrupt
            return not self._patience.is_over

        return go_on

    def _fetch(self) -> Kernel:
        # The word, not what it stands for: paths, keyrings and the installed kernel are those of this machine.
        (selection,) = select([self._order.word], catalogue=load_catalogue())
        named = replace(selection, name=self._order.kernel)
        return obtain(named, progress=self._show_fetching, mirror=self._order.mirror)

    def _show_fetching(self, line: str) -> None:
        self._say(Progress(phase="fetching", detail=line))

    def _wait_for_admission(self) -> bool:
        """Tell whether to boot: wait until the controller says that there is room for another VM."""
        # One machine may go by several names, and several machines by one.
        host, room = f"{platform.node()} {boot_id()}", capacity(memory=self._order.options.memory)
        self._say(BootRequest(host=host, capacity=room))
        while not self._admitted.wait(_LOOK_EVERY):
            if self._stop.is_set():
                return False
        return True

    def _serve(self, vm: Machine, first: tuple[Any, ...]) -> Ending:
        """Run xdist's worker in the guest until it has ended, one way or another."""
        watcher = threading.Thread(target=self._watch, args=(vm,), daemon=True)
        watcher.start()
        try:
            gateway = open_gateway(vm.port, name=self._order.kernel)
            guest = gateway.remote_exec(xdist_worker())
            guest.send(first)
            self._connect(guest)
        except (EOFError, OSError) as error:
            self._ended.set()
            return self._post_mortem(vm, f"its worker did not come up: {error}")
        self._ended.wait()
        if self._stop.is_set():
            return Ending(how=End.STOPPED, why="the run was ended")
        if self._worker_finished:
            gateway.exit()
            if not vm.wait(seconds=20):
                return Ending(how=End.DONE, why="it did not power off")
            return Ending(how=End.DONE, why="")
        cause: Exception | None = guest._getremoteerror()  # type: ignore[no-untyped-call]
        return self._post_mortem(vm, "" if cause is None or isinstance(cause, EOFError) else str(cause))

    def _post_mortem(self, vm: Machine, error: str) -> Ending:
        if self._hung:
            return Ending(how=End.HUNG, why=f"there was no news from it for {self._order.timeout} seconds")
        ended = vm.wait(seconds=10)
        if why := self._up.explain_end():
            return Ending(how=End.LOST, why=why)
        if not ended:
            return Ending(how=End.WORKER_DIED, why=error or "its worker ended, the VM did not")
        return Ending(how=End.LOST, why=error or "the VM ended")

    _hung = False

    def _watch(self, vm: Machine) -> None:
        """End a VM that is not heard from, or that nobody wants any more."""
        while not self._ended.wait(_LOOK_EVERY):
            if self._stop.is_set():
                vm.kill()
                self._ended.set()
            elif self._patience.is_over:
                self._hung = True
                vm.kill()
                self._ended.set()

    # What the controller and the guest say; these run in the threads that execnet reads with.

    def _told(self, message: Any) -> None:
        if message == Instruction.GO:
            self._admitted.set()
        else:  # Instruction.STOP, or None: the controller is gone
            self._stop.set()
            if self._busy and (main := threading.main_thread().ident) is not None:
                signal.pthread_kill(main, signal.SIGINT)

    def _from_controller(self, message: Any) -> None:
        with self._lock:
            if message is _END_OF_MESSAGES:
                self._stop.set()
            elif self._guest is not None:
                self._pass_to_guest(message)
            elif self._early is not None:
                self._early.append(message)

    def _connect(self, guest: Any) -> None:
        with self._lock:
            self._guest = guest
            for message in self._early or ():
                self._pass_to_guest(message)
            self._early = None
        guest.setcallback(self._from_guest, endmarker=_END_OF_MESSAGES)

    def _pass_to_guest(self, message: Any) -> None:
        self._patience.resume()
        with contextlib.suppress(OSError):  # it is ending, which is noticed elsewhere
            self._guest.send(message)

    def _from_guest(self, message: Any) -> None:
        self._patience.renew()
        if message is _END_OF_MESSAGES:
            self._ended.set()
            return
        for name, content in wire_format.unpack(message):
            if name == "workerfinished":
                self._worker_finished = True
            elif name == "collectionfinish":
                # It is the controller's turn, which may be busy with other kernels.
                self._patience.pause()
            self._channel.send((name, content))

    def _say(self, message: Status) -> None:
        self._status.send(message.to_message())

    # A worker without cases, for a kernel of which nothing more is to be had.

    def _be_idle(self) -> None:
        """Keep xdist's protocol with no cases at all."""
        info = {
            "version": sys.version,
            "version_info": tuple(sys.version_info),
            "sysplatform": sys.platform,
            "platform": platform.platform(),
            "executable": sys.executable,
            "cwd": os.getcwd(),  # noqa: PTH109  # a string, which is what travels
        }
        self._channel.send(("workerready", {"workerinfo": info}))
        self._channel.send(("collectionfinish", {"topdir": os.getcwd(), "ids": []}))  # noqa: PTH109
        while not self._stop.wait(_LOOK_EVERY):
            with self._lock:
                if any(message[0] == "shutdown" for message in self._early or ()):
                    break
        output = {"exitstatus": 0, "shouldfail": False, "shouldstop": False}
        self._channel.send(("workerfinished", {"workeroutput": output}))
