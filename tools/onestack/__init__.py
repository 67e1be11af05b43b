# SPDX-License-Identifier: MIT
"""Boots an x86-64 kernel in QEMU and breaks it on purpose, at exact instructions."""
