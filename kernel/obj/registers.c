/* SPDX-License-Identifier: MIT */
#include "kernel/obj/registers.h"
#include "kernel/mail.h"

#include "kernel/abi/error.h"
#include "kernel/arch/cpu.h"
#include "kernel/lib/string.h"
#include "kernel/obj/cap.h"
#include "kernel/syscall.h"

/* What a program can change by POPF anyway. */
#define RFLAGS_USER (RFLAGS_STATUS | RFLAGS_TF | RFLAGS_DF | RFLAGS_NT | RFLAGS_AC | RFLAGS_ID)

#define GENERAL_WORDS 15

_Static_assert(offsetof(struct thread_registers, rip) == GENERAL_WORDS * sizeof(uint64_t) &&
                   offsetof(struct frame, error) == GENERAL_WORDS * sizeof(uint64_t) &&
                   offsetof(struct thread_registers, rax) == offsetof(struct frame, rax),
               "the general registers come first, in the same order");

void registers_get(const struct thread *self, const struct thread *thread,
                   struct thread_registers *registers)
{
    memcpy(registers, &thread->frame, GENERAL_WORDS * sizeof(uint64_t));
    registers->rip = thread->frame.rip;
    registers->rflags = thread->frame.rflags;
    registers->rsp = thread->frame.rsp;
    /* User mode may change the bases at any time: of who runs, the registers know them (E7). */
    registers->fs_base = thread == self ? rdfsbase() : thread->fs_base;
    registers->gs_base = thread == self ? rdgsbase() : thread->gs_base;
}

static bool canonical(uint64_t address)
{
    return (uint64_t)((int64_t)(address << 16) >> 16) == address;
}

int registers_set(const struct thread *self, struct thread *thread,
                  const struct thread_registers *registers)
{
    if (!rip_valid(registers->rip) || !canonical(registers->fs_base) ||
        !canonical(registers->gs_base)) {
        return E_INVAL;
    }
    memcpy(&thread->frame, registers, GENERAL_WORDS * sizeof(uint64_t));
    thread->frame.rip = registers->rip;
    thread->frame.rflags = (registers->rflags & RFLAGS_USER) | RFLAGS_FIXED | RFLAGS_IF;
    thread->frame.rsp = registers->rsp;
    thread->fs_base = registers->fs_base;
    thread->gs_base = registers->gs_base;
    if (thread == self) {
        wrfsbase(registers->fs_base);
        wrgsbase(registers->gs_base);
    }
    return E_OK;
}

/* Stopped, so that nothing changes its registers meanwhile? */
static bool is_stopped(const struct thread *self, const struct thread *thread)
{
    return thread != self &&
           (thread->flags & THREAD_FLAG_SUSPENDED || thread->state == THREAD_INACTIVE ||
            thread->state == THREAD_FAULTED || thread->state == THREAD_FAULTING);
}

/* And not in the middle of a call that would write to them, or read them again, later. */
static bool is_between_instructions(const struct thread *thread)
{
    return thread->continuation == NULL &&
           (thread->state == THREAD_READY || thread->state == THREAD_INACTIVE ||
            (thread->state == THREAD_FAULTED && !thread->fault_memory));
}

static int64_t find(struct thread *self, struct thread **thread)
{
    *thread = cap_object(self->space, ARG0(self), RIGHT_THREAD_REGISTERS);
    if (!*thread) {
        return cap_error(self->space, ARG0(self), OBJ_THREAD);
    }
    if ((*thread)->object.dying) {
        return E_DEAD;
    }
    if ((*thread)->core != self->core) {
        return mail_go(self->core, self, (*thread)->core, syscall_restart);
    }
    return is_stopped(self, *thread) ? E_OK : E_BUSY;
}

int64_t sys_thread_get_registers(struct core *core, struct thread *self)
{
    struct thread_registers registers;
    struct thread *thread;
    int64_t error = find(self, &thread);

    if (error) {
        return error;
    }
    registers_get(self, thread, &registers);
    copy_to_user(core, ARG1(self), &registers, sizeof(registers));
    return E_OK;
}

int64_t sys_thread_set_registers(struct core *core, struct thread *self)
{
    struct thread_registers registers;
    struct thread *thread;
    int64_t error;

    copy_from_user(core, &registers, ARG1(self), sizeof(registers));
    error = find(self, &thread);
    if (error) {
        return error;
    }
    return is_between_instructions(thread) ? registers_set(self, thread, &registers) : E_BUSY;
}
