# SPDX-License-Identifier: MIT
"""The subcommands of `onestack`, one file each; common.py has what they share."""
