# SPDX-License-Identifier: MIT
"""Pairs of operations for the interleaving sweep: what is set up, the two, what is judged."""

from __future__ import annotations

import races_chains  # noqa: F401  each declares its own
import races_ipc  # noqa: F401
import races_lifetimes  # noqa: F401
import races_objects  # noqa: F401
import races_time  # noqa: F401
from stage import FAMILIES, RACES

__all__ = ["FAMILIES", "RACES"]
