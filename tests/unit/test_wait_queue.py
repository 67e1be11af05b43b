# SPDX-License-Identifier: MIT
"""Wait queues against a list of lists: by priority, FIFO within one, and short to walk."""

from __future__ import annotations

import ctypes

import pytest
from host_c import build
from hypothesis import given, settings
from hypothesis import strategies as st

THREADS = 64
SHIM = f"""
#include "kernel/obj/wait_queue.h"

uint64_t host_memory;
static struct thread threads[{THREADS}];
static struct wait_queue queue;

void clear(void);
void clear(void)
{{
    wait_queue_init(&queue);
    for (int i = 0; i < {THREADS}; i++) {{
        threads[i].next = threads[i].prev = &threads[i];
        threads[i].group_next = NULL;
    }}
}}
void insert(int i, int priority);
void insert(int i, int priority)
{{
    threads[i].priority = (uint8_t)priority;
    wait_queue_insert(&queue, &threads[i]);
}}
void take(int i);
void take(int i) {{ wait_queue_remove(&queue, &threads[i]); }}
int pop(void);
int pop(void) {{ return wait_queue_empty(&queue) ? -1 : (int)(wait_queue_pop(&queue) - threads); }}

/* In no queue, and left as it has to be? */
int lonely(int i);
int lonely(int i)
{{
    const struct thread *thread = &threads[i];

    return thread->next == thread && thread->prev == thread && !thread->group_next;
}}

/* The ring in order; -1 if links or the groups' chain are wrong. */
int order(int *out);
int order(int *out)
{{
    struct thread *thread = wait_queue_empty(&queue) ? NULL : queue.head, *group = thread;
    int count = 0;

    while (thread) {{
        out[count++] = (int)(thread - threads);
        if (thread->next->prev != thread || count > {THREADS}) {{
            return -1;
        }}
        if (thread == queue.head || thread->prev->priority != thread->priority) {{
            if (group != thread) {{
                return -1;
            }}
            group = thread->group_next;
        }}
        thread = thread->next == queue.head ? NULL : thread->next;
    }}
    return group ? -1 : count;
}}
"""


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return build(tmp_path_factory.mktemp("queue"), ["kernel/obj/wait_queue.c"], SHIM)


Operations = st.lists(
    st.tuples(
        st.sampled_from(["insert", "insert", "take", "pop"]),
        st.integers(0, THREADS - 1),
        st.sampled_from([0, 1, 7, 7, 8, 254, 255]),
    ),
    max_size=200,
)


@settings(max_examples=300, deadline=None)
@given(Operations)
def test_order(kernel: ctypes.CDLL, operations: list[tuple[str, int, int]]) -> None:
    model: list[tuple[int, int]] = []  # (priority, thread)
    kernel.clear()
    for what, thread, priority in operations:
        present = any(thread == other for _, other in model)
        if what == "insert" and not present:
            kernel.insert(thread, priority)
            at = sum(1 for other, _ in model if other >= priority)
            model.insert(at, (priority, thread))
        elif what == "take" and present:
            kernel.take(thread)
            model = [row for row in model if row[1] != thread]
        elif what == "pop":
            expected = model.pop(0)[1] if model else -1
            assert kernel.pop() == expected
        waiting = {other for _, other in model}
        assert all(kernel.lonely(i) for i in range(THREADS) if i not in waiting)
        out = (ctypes.c_int * (THREADS + 1))()
        assert kernel.order(out) == len(model)
        assert list(out)[: len(model)] == [row[1] for row in model]
