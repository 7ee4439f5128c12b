# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A run over three kernels with one failure on one of them."""

from __future__ import annotations

from harness.interface.measured import Shares, measured_to_json
from vm.report.outcomes import CaseOutcome, KernelOutcome
from vm.report.results import BugEntry, CaseResult, FunctionResult, KernelResult, RunResult

KERNELS = {"5.10": "5.10.262", "6.1": "6.1.192", "6.12": "6.12.117"}

PLANTED = "cases/test_connected.py::test_peer_reaches_its_socket[ipv4]"
EXACT = "cases/test_connected.py::test_exact"
AWKWARD = "cases/test_connected.py::test_peer_reaches_its_socket[<script>alert('naïve # \"x\"')</script>]"

BUG: BugEntry = {
    "name": "K1",
    "state": "fixed",
    "commit": "acdcecc61285",
    "subject": "udp: correct reuseport selection with connected sockets",
}


def planted_run(planted: str = PLANTED) -> RunResult:
    """Return the run; `planted` is the id of the case that fails."""
    kernels = []
    for name, release in KERNELS.items():
        cases = [
            CaseResult(id=planted, outcome=CaseOutcome.PASSED, seconds=0.1, bugs=[BUG]),
            CaseResult(id=PLANTED.replace("ipv4", "ipv6"), outcome=CaseOutcome.PASSED, seconds=0.1, bugs=[BUG]),
            CaseResult(id="cases/test_new.py::test_new", outcome=CaseOutcome.SKIPPED, seconds=0.0, reason="too old"),
        ]
        kernels.append(kernel_of(name, release, cases))
    bad = kernels[-1].cases[0]
    kernels[-1].outcome = KernelOutcome.FAILED
    bad.outcome, bad.reason, bad.detail = CaseOutcome.FAILED, "assert 3 == 2", "def test():\nE   assert 3 == 2 <b>\x00"
    bad.parts = [{"expected": "member 2", "observed": "member 3", "differs": True, "meaning": "another member"}]
    bad.packets = [
        {
            "layers": "###[ IP ]###\n  src = 192.0.2.9",
            "data": "45000054",
            "fields": [
                {"name": "length", "value": "84", "start": 2, "end": 4, "key": False},
                {"name": "index", "value": "0", "start": 1, "end": 2, "key": True},
            ],
        }
    ]
    bad.measured = [measured_to_json(Shares(program="<b>maglev", received=[40, 60], low=30, high=70))]
    bad.pcap = "6.12/pcap/planted.pcapng"
    return RunResult(
        command=["pytest", "-k", "<all>"],
        started="2026-01-01T00:00:00+00:00",
        duration=12.5,
        exit=1,
        outcome="failed",
        tools={"pytest": "9"},
        kernels=kernels,
        functions={
            PLANTED.partition("[")[0]: FunctionResult(
                says="A connected socket receives all of its peer's datagrams.",
                promises=["connected.peer-only"],
                bugs=["K1"],
            )
        },
    )


def kernel_of(name: str, release: str, cases: list[CaseResult]) -> KernelResult:
    """Return a kernel that came up."""
    return KernelResult(
        name=name, release=release, accel="kvm", vms=1, boot_seconds=2.5, console=f"{name}/console.log", cases=cases
    )
