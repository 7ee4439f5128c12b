# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What is measured, a module a topic; `tests.bench.table` names all of it."""
