# SPDX-License-Identifier: MIT
"""The balanced tree against a sorted list; its shape is checked after every step."""

from __future__ import annotations

import bisect
import ctypes

import pytest
from host_c import build
from hypothesis import given, settings
from hypothesis import strategies as st

NODES = 4096
SHIM = f"""
#include <stddef.h>
#include "kernel/lib/tree.h"

uint64_t host_memory;
static struct tree tree;
static struct tree_node nodes[{NODES}];

void clear(void);
void clear(void) {{ tree.root = NULL; }}
void insert(uint64_t key);
void insert(uint64_t key) {{ nodes[key].key = key; tree_insert(&tree, &nodes[key]); }}
void take(uint64_t key);
void take(uint64_t key) {{ tree_remove(&tree, &nodes[key]); }}
static int64_t key_of(const struct tree_node *node) {{ return node ? (int64_t)node->key : -1; }}
int64_t floor_of(uint64_t key);
int64_t floor_of(uint64_t key) {{ return key_of(tree_floor(&tree, key)); }}
int64_t next_of(uint64_t key);
int64_t next_of(uint64_t key) {{ return key_of(tree_next(&nodes[key])); }}

static int check(const struct tree_node *node, const struct tree_node *parent)
{{
    if (!node) {{
        return 0;
    }}
    int left = check(node->child[0], node);
    int right = check(node->child[1], node);
    if (left < 0 || right < 0 || node->parent != parent || right - left != node->balance ||
        node->balance < -1 || node->balance > 1 ||
        (node->child[0] && node->child[0]->key >= node->key) ||
        (node->child[1] && node->child[1]->key <= node->key)) {{
        return -1;
    }}
    return 1 + (left > right ? left : right);
}}
int height(void);
int height(void) {{ return check(tree.root, NULL); }}
"""


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    lib = build(tmp_path_factory.mktemp("tree"), ["kernel/lib/tree.c"], SHIM)
    for name in ("insert", "take", "floor_of", "next_of"):
        getattr(lib, name).argtypes = [ctypes.c_uint64]
    lib.floor_of.restype = lib.next_of.restype = ctypes.c_int64
    return lib


def same(lib: ctypes.CDLL, keys: list[int]) -> None:
    assert lib.height() >= 0, "not a balanced tree any more"
    walked, key = [], lib.floor_of(keys[0]) if keys else -1
    while key >= 0:
        walked.append(key)
        key = lib.next_of(key)
    assert walked == keys


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, NODES - 1), max_size=120), st.integers(0, NODES - 1))
def test_against_sorted_list(kernel: ctypes.CDLL, toggles: list[int], probe: int) -> None:
    kernel.clear()
    keys: list[int] = []
    for key in toggles:
        if key in keys:
            kernel.take(key)
            keys.remove(key)
        else:
            kernel.insert(key)
            bisect.insort(keys, key)
        same(kernel, keys)
    at = bisect.bisect_right(keys, probe)
    assert kernel.floor_of(probe) == (keys[at - 1] if at else -1)


@pytest.mark.parametrize("order", [range(NODES), range(NODES - 1, -1, -1)], ids=["up", "down"])
def test_sorted_insertion_stays_low(kernel: ctypes.CDLL, order: range) -> None:
    kernel.clear()
    for key in order:
        kernel.insert(key)
    assert kernel.height() <= 18  # 1.44 log2(n)
    for key in order:
        kernel.take(key)
        assert kernel.height() >= 0
