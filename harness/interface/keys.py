# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The names of what reports carry to the controller, and of what the controller hands to workers."""

from __future__ import annotations

OBSERVED = "observed"
"""Property of a report: what the case saw, in words that are the same on every boot. Any JSON value."""

MISSING_FEATURE = "missing_feature"
"""Property of a report: the feature that the case requires and a kernel of this release lacks. Its name."""

LEDGER = "ledger"
"""Property of a report, once for each: a bug of the ledger that the case shows. A mapping with "name", "state" (whether
the kernel has it), "commit" (that mended it; may be empty) and "subject"."""

MEASURED = "measured"
"""Property of a report, once for each: what the case measured, to be drawn. As `harness.interface.measured` has it."""

PARTS = "parts"
"""Property of a failed case's report: what was expected and what was observed, part by part. A list of mappings with
"expected", "observed" (text), "differs" (bool) and "meaning" (text; empty where nothing differs)."""

FRAMES = "frames"
"""Property of a failed case's report: the last frames on the wire, in order. A list of mappings with "at" (seconds
since 1970), "sent" (True: to the server; False: a reply), "data" (hexadecimal), "note"
(what came of it and those before it, in words; may be empty), "layers" (the frame dissected, as text)
and "fields" (where in the frame those fields are that matter: mappings with "name", "value" (text), "start", "end"
(bytes) and "key", whether the choice of a member rests on it). Both are empty for all but the last ones that were
sent."""

STORY = "story"
"""Property of a report at the controller: what the witness saw. A `harness.interface.story.Story`."""

HISTORY = "history"
"""Property of a report: a history, or packets, on which kernel and model differ. What
`harness.campaign.found.Found` has as JSON."""

REACHED = "reached"
"""Property of a report: what a campaign reached. Counts, by name, as a mapping."""

ALONE_MARK = "alone"
"""The mark of cases that need the machine to themselves: no other VM of their kernel runs cases meanwhile."""

KERNEL_LOG = "REUSEPORT_KMSG"
"""Environment variable of a worker in a VM: the path of the kernel's log, to which marks are written."""

OWN_KERNEL_LOG = "/dev/kmsg"
"""Its value where the kernel is the worker's own. A stand-in for a VM, in tests of the harness, has a file instead."""

OBJECTS = "objects"
"""Key of `workerinput`: the compiled programs. Name to path; on another machine the files are sent along."""

CPU_OF_PROCESS = "cpu_of_process"
"""Key of `workerinput`: the CPU that a process on the running kernel sends on, where several share the kernel."""
