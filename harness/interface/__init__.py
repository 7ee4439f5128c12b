# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What harness/ and vm/ agree on: names of properties, steps of stories, the schema of results.json, whole files.

It is all that vm/ imports of harness/. Modules here import the standard library and each other, nothing else: vm/ also
runs where pytest and the rest of the environment are not.
"""
