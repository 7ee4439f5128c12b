# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Register the plugins: what a case talks to, and what turns kernels into workers."""

pytest_plugins = ["harness.plugin", "vm.plugin"]
