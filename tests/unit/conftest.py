# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Settings of the unit tests."""

from hypothesis import settings

# A busy machine is no failure: nothing here is judged by the clock.
settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")
