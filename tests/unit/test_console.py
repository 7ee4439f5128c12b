# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The scan of consoles, on what kernels really printed (data/) and on lines in the kernel's words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vm.report.console import (
    BEGIN,
    END,
    KVM_FAILED,
    NEW_VM,
    Allowance,
    ConsoleError,
    last_panic,
    load_allowances,
    scan,
    tail,
)

PROVOKED = (Path(__file__).parent / "data/console-6.1.log").read_text()

PANIC = f"""\
[   12.345678] {BEGIN}cases/test_topic.py::test_panics
[   12.350000] sysrq: Trigger a crash
[   12.351234] Kernel panic - not syncing: sysrq triggered crash
[   12.352345] CPU: 0 PID: 93 Comm: python Not tainted 6.1.0-56-amd64 #1  Debian 6.1.192-2
[   12.353456] Kernel Offset: disabled
"""


def case(name: str) -> str:
    return f"cases/test_provoke.py::test_{name}"


def test_every_provoked_splat_is_found_and_names_its_case() -> None:
    # Once each: a hung task is complained of again and again.
    found = dict.fromkeys((splat.kind, splat.case) for splat in scan(PROVOKED, ran=[]))
    assert list(found) == [
        ("WARNING", case("warn")),
        ("WARNING", case("warn_on")),
        ("refcount", case("refcount")),
        ("refcount", case("underflow")),
        ("BUG", case("atomic")),
        ("WARNING", case("atomic")),
        ("hung task", case("hung")),
        ("soft lockup", case("lockup")),
        ("RCU stall", case("lockup")),
        ("BUG", case("bug")),
        ("BUG", case("null")),
        ("Oops", case("gpf")),
        ("BUG", case("list")),
    ]


def test_excerpt_runs_from_the_cut_to_the_end_of_the_trace() -> None:
    splat = scan(PROVOKED, ran=[])[0]
    lines = splat.excerpt.splitlines()
    assert lines[0].startswith("WARNING: CPU: 0 PID: 107 at provoke.c:15")
    assert "provoke_init+0x43/0x1000" in splat.title
    assert lines[-1] == "---[ end trace 0000000000000000 ]---"


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("BUG: KASAN: slab-use-after-free in reuseport_select_sock+0x1f0/0x5a0", "sanitizer"),
        ("BUG: KFENCE: use-after-free read in sk_select_reuseport+0x42/0x120", "sanitizer"),
        ("UBSAN: array-index-out-of-bounds in net/core/sock_reuseport.c:430:12", "sanitizer"),
        ("WARNING: possible circular locking dependency detected", "lockdep"),
        ("WARNING: suspicious RCU usage", "lockdep"),
        ("WARNING: inconsistent lock state", "lockdep"),
        ("INFO: trying to register non-static key.", "lockdep"),
        ("WARNING: bad unlock balance detected!", "lockdep"),
        ("WARNING: bad contention detected!", "lockdep"),
        ("WARNING: held lock freed!", "lockdep"),
        ("WARNING: python3/93 still has locks held!", "lockdep"),
        ("WARNING: lock held when returning to user space!", "lockdep"),
        ("WARNING: Nested lock was not taken", "lockdep"),
        ("WARNING: chain_key collision", "lockdep"),
        ("WARNING: possible recursive locking detected", "lockdep"),
        ("WARNING: possible irq lock inversion dependency detected", "lockdep"),
        ("WARNING: SOFTIRQ-safe -> SOFTIRQ-unsafe lock order detected", "lockdep"),
        ("[ BUG: Invalid wait context ]", "lockdep"),
        ("BUG: MAX_LOCKDEP_CHAINS too low!", "lockdep"),
        ("BUG: KASAN: use-after-free in reuseport_select_sock+0x1f0/0x5a0", "sanitizer"),
        ("BUG: KASAN: vmalloc-out-of-bounds in reuseport_select_sock+0x1f0/0x5a0", "sanitizer"),
        ("BUG: KASAN: double-free in reuseport_free_rcu+0x60/0x80", "sanitizer"),
        ("UBSAN: shift-out-of-bounds in lib/vsprintf.c:1234:5", "sanitizer"),
        ("BUG kmalloc-1k (Tainted: G    B  ): Poison overwritten", "object"),
        ("BUG request_sock_TCP (Not tainted): Object already free", "object"),
        (
            "ODEBUG: free active (active state 0) object type: timer_list hint: reqsk_timer_handler+0x0/0x4a0",
            "object",
        ),
        ("ODEBUG: Out of memory. ODEBUG disabled", "object"),
        ("ODEBUG: object 00000000dd2ef8bd is on stack 00000000a1e0f0c1, but NOT annotated.", "object"),
        ("WARNING: CPU: 0 PID: 93 at lib/debugobjects.c:515 debug_print_object+0x16a/0x270", "object"),
        ("refcount_t: addition on 0; use-after-free.", "refcount"),
        ("IPv4: Attempt to release TCP socket in state 10 00000000b1e0f0c1", "refcount"),
        ("IPv4: Attempt to release alive inet socket 00000000b1e0f0c1", "refcount"),
        ("BUG: scheduling while atomic: python3/93/0x00000202", "BUG"),
        ("int3: 0000 [#1] SMP KASAN", "Oops"),
        ("stack segment: 0000 [#1] PREEMPT SMP KASAN NOPTI", "Oops"),
        ("WARNING: net/core/sock_reuseport.c:321 at reuseport_add_sock+0x1/0x2, CPU#0: python3/93", "WARNING"),
        ("WARNING: lib/refcount.c:28 at refcount_warn_saturate+0xba/0x110, CPU#0: insmod/113", "refcount"),
        ("rcu: INFO: rcu_preempt self-detected stall on CPU", "RCU stall"),
        ("rcu: INFO: rcu_sched detected expedited stalls on CPUs/tasks: { 0-... } 5250 jiffies", "RCU stall"),
        ("INFO: task kworker/u4:1:11 blocked for more than 120 seconds.", "hung task"),
        ("unreferenced object 0xffff888104c1a000 (size 256):", "memory leak"),
        ("BUG: unable to handle page fault for address: ffffc90000a3d000", "BUG"),
        ("BUG: sleeping function called from invalid context at mm/slab.h:494", "BUG"),
        ("Oops: 0000 [#1] PREEMPT SMP NOPTI", "Oops"),
        ("Oops: general protection fault, probably for non-canonical address 0xdead000000000100", "Oops"),
        ("divide error: 0000 [#1] PREEMPT SMP", "Oops"),
    ],
)
def test_kind_of_a_splat(line: str, kind: str) -> None:
    (splat,) = scan(f"[    5.000000][  T123] {line}\n", ran=[])
    assert (splat.kind, splat.title, splat.case) == (kind, line, None)


@pytest.mark.parametrize(
    "line",
    [
        "AMD-Vi: AMD IOMMUv2 functionality not available on this system - This is not a bug.",
        "Spectre V2 : WARNING: Unprivileged eBPF is enabled with eIBRS on, data leaks possible",
        "debug: unmapping init [mem 0xffffffff83079000-0xffffffff83ffffff]",
        "reuseport-harness: begin cases/test_topic.py::test_WARNING",
        "hrtimer: interrupt took 23543700 ns",
        "kmemleak: 3 new suspected memory leaks (see /sys/kernel/debug/kmemleak)",
        "kmemleak: Kernel memory leak detector initialized (mem pool available: 15712)",
        "ODEBUG: selftest passed",
        "Lock dependency validator: Copyright (c) 2006 Red Hat, Inc., Ingo Molnar",
        "kasan: KernelAddressSanitizer initialized",
    ],
)
def test_ordinary_lines_are_no_splats(line: str) -> None:
    assert not scan(f"[    5.000000] {line}\n", ran=[])


def test_case_that_ended_is_not_blamed() -> None:
    text = f"[ 1.0] {BEGIN}one\n[ 2.0] {END}one\n[ 3.0] WARNING: late\n[ 4.0] {BEGIN}two\n[ 5.0] WARNING: in time\n"
    assert [splat.case for splat in scan(text, ran=["one", "two"])] == [None, "two"]


def test_empty_console_cannot_be_scanned() -> None:
    with pytest.raises(ConsoleError, match="empty"):
        scan("", ran=[])


def test_console_without_a_mark_cannot_be_scanned() -> None:
    with pytest.raises(ConsoleError, match="no mark of two"):
        scan(f"[ 1.0] {BEGIN}one\n", ran=["one", "two"])


def test_allowed_splat_is_left_out() -> None:
    allowance = Allowance(pattern=r"provoke_init\+0x43", reason="provoked", link="none")
    assert len(scan(PROVOKED, ran=[], allowances=[allowance])) == len(scan(PROVOKED, ran=[])) - 1


def test_allowance_needs_a_reason_and_a_link(tmp_path: Path) -> None:
    file = tmp_path / "console.toml"
    file.write_text('[[allow]]\npattern = "x"\nreason = "y"\n')
    with pytest.raises(TypeError, match="link"):
        load_allowances(file)


def test_own_allowances_are_complete() -> None:
    for allowance in load_allowances():
        assert re.compile(allowance.pattern)
        assert allowance.reason
        assert allowance.link.startswith("https://")


def test_panic_has_its_reason_and_its_case() -> None:
    panic = last_panic("[ 1.0] boot\n" + PANIC)
    assert panic is not None
    assert (panic.reason, panic.case) == ("sysrq triggered crash", "cases/test_topic.py::test_panics")
    assert panic.excerpt.splitlines()[0].endswith("test_panics")
    assert not panic.is_hang


@pytest.mark.parametrize("reason", ["softlockup: hung tasks", "hung_task: blocked tasks", "RCU Stall"])
def test_panic_that_a_hang_became(reason: str) -> None:
    panic = last_panic(f"[ 9.0] Kernel panic - not syncing: {reason}\n")
    assert panic is not None
    assert panic.is_hang


def test_panic_of_an_earlier_vm_is_history() -> None:
    text = f"{PANIC}\n{NEW_VM}the VM ended\n[ 1.0] boot\n"
    assert last_panic(text) is None
    assert tail(text) == "[ 1.0] boot"


def test_what_a_kernel_said_where_kvm_failed_is_not_held_against_it() -> None:
    splat = "[    1.000000] WARNING: CPU: 0 PID: 1 at arch/x86/kernel/tsc.c:1 tsc_init\n"
    failed = f"{splat}\n{KVM_FAILED}QEMU paused the VM\n"
    assert scan(f"{failed}[    0.000000] Linux version 6.1.0\n", ran=[]) == []
    assert len(scan(f"{splat}\n{NEW_VM}it was lost\n{failed}{splat}", ran=[])) == 2, "those of the VMs that came up"
