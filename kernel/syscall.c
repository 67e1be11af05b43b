/* SPDX-License-Identifier: MIT */
/* The two tables of system calls: what the SYSCALL stub calls, and what a slow one then runs. */
#include "kernel/syscall.h"

#include "kernel/arch/entry.h"
#include "kernel/fastpath.h"
#include "kernel/grace.h"
#include "kernel/sched.h"

typedef int64_t slow_fn(struct core *core, struct thread *self);

#define SLOT_FAST(name)  (void *)fast_##name
#define SLOT_TRY(name)   (void *)fast_##name
#define SLOT_QUICK(name) (void *)syscall_quick
#define SLOT_SLOW(name)  (void *)syscall_slow

#define QUICK_FAST(name)  NULL
#define QUICK_TRY(name)   NULL
#define QUICK_QUICK(name) (void *)fast_##name
#define QUICK_SLOW(name)  NULL

/* By the number's low byte, so that no bound needs a check. */
void *const syscall_fast[256] = {
    [SYS_COUNT... 255] = (void *)fast_unknown,
#define SYSCALL(number, name, kind, args, text) [number] = SLOT_##kind(name),
#include "kernel/abi/syscalls.def"
#undef SYSCALL
};

/* What syscall_quick goes on with. */
void *const quick_functions[SYS_COUNT] = {
#define SYSCALL(number, name, kind, args, text) [number] = QUICK_##kind(name),
#include "kernel/abi/syscalls.def"
#undef SYSCALL
};

static slow_fn *const slow[SYS_COUNT] = {
#define SYSCALL(number, name, kind, args, text) [number] = sys_##name,
#include "kernel/abi/syscalls.def"
#undef SYSCALL
};

/* A continuation: now there is what there can be. */
static void run_again(struct core *core, struct thread *self)
{
    core_set_state(core, CORE_ST_SYSCALL);
    int64_t result = slow[self->frame.rax](core, self);

    if (result != BLOCKED) {
        self->frame.rax = (uint64_t)result;
    }
}

/*
 * No account is exhausted while what was given up waits for other cores to have looked (grace.h).
 * A call that has written its result has changed something, and is not made again.
 */
static __attribute__((noinline)) void no_memory(struct thread *self)
{
    if (self->frame.rax < SYS_COUNT && grace_pending()) {
        grace_wait(self, run_again);
    } else {
        self->frame.rax = (uint64_t)E_NOMEM;
    }
}

void syscall_dispatch(struct core *core, struct thread *self)
{
    int64_t result = slow[self->frame.rax](core, self);

    if (__builtin_expect(result == E_NOMEM, 0)) {
        no_memory(self);
    } else if (result != BLOCKED) {
        self->frame.rax = (uint64_t)result;
    }
}

void syscall_restart(struct core *core, struct thread *self)
{
    core_set_state(core, CORE_ST_SYSCALL);
    syscall_dispatch(core, self);
}

FAST(null)
{
    (void)save_end, (void)a0, (void)a1, (void)core, (void)a2, (void)a3;
    return (struct fast_result){E_OK, 0};
}

FAST(unknown)
{
    (void)save_end, (void)a0, (void)a1, (void)core, (void)a2, (void)a3;
    return (struct fast_result){E_NOSYS, 0};
}

/* Never reached: the fast function does not decline. */
int64_t sys_null(struct core *core, struct thread *self)
{
    (void)core, (void)self;
    return E_OK;
}

/* Likewise. */
int64_t sys_yield(struct core *core, struct thread *self)
{
    return sys_null(core, self);
}
