/* SPDX-License-Identifier: MIT */
/* The system calls on capabilities themselves, whatever they name. */
#include "kernel/obj/cap.h"
#include "kernel/syscall.h"

/* Argument 0, any capability that is not going. It may lose its rights any moment: they are read once. */
static struct cap *argument(const struct thread *self, uint32_t *rights)
{
    struct cap *cap = cap_lookup(self->space, ARG0(self));

    *rights = cap ? __atomic_load_n(&cap->rights, __ATOMIC_RELAXED) : 0;
    return *rights ? cap : NULL;
}

/*
 * The table that something shall be put into: 0 = self's own; another one takes a right to it, and
 * the right to give the capability away.
 */
static int64_t destination(const struct thread *self, uint32_t rights, cap_t handle,
                           struct space **space)
{
    if (handle == 0) {
        *space = self->space;
        return E_OK;
    }
    *space = cap_object(self->space, handle, RIGHT_SPACE_CAPS);
    if (!*space) {
        return cap_error(self->space, handle, OBJ_SPACE);
    }
    return *space == self->space || rights & RIGHT_GRANT ? E_OK : E_RIGHTS;
}

/* The badge of a copy: its own to choose only if the original has none, and where it says nothing else. */
static int64_t choose_badge(const struct cap *cap, uint64_t wish, uint64_t *badge)
{
    *badge = cap->badge;
    if (wish == 0 || wish == cap->badge) {
        return E_OK;
    }
    if (cap->badge ||
        (cap->object->type != OBJ_ENDPOINT && cap->object->type != OBJ_NOTIFICATION)) {
        return E_INVAL;
    }
    *badge = wish;
    return E_OK;
}

int64_t sys_cap_copy(struct core *core, struct thread *self)
{
    cap_t handle = ARG0(self), copy;
    uint32_t rights;
    struct cap *cap = argument(self, &rights);
    struct space *space;
    uint64_t badge;

    (void)core;
    if (!cap) {
        return E_BADCAP;
    }
    int64_t error = destination(self, rights, ARG3(self), &space);

    rights &= (uint32_t)ARG1(self);
    if (!error) {
        error = rights ? choose_badge(cap, ARG2(self), &badge) : E_INVAL;
    }
    if (!error) {
        error = cap_insert(space, cap->object, rights, badge, cap, handle, &copy);
    }
    if (!error) {
        self->frame.rdx = copy;
    }
    return error;
}

int64_t sys_cap_move(struct core *core, struct thread *self)
{
    cap_t handle = ARG0(self), moved;
    uint32_t rights;
    struct cap *cap = argument(self, &rights);
    struct space *space;

    (void)core;
    if (!cap) {
        return E_BADCAP;
    }
    int64_t error = destination(self, rights, ARG1(self), &space);

    if (!error) {
        error = cap_move(space, cap, handle, &moved);
    }
    if (!error) {
        self->frame.rdx = moved;
    }
    return error;
}

int64_t sys_cap_info(struct core *core, struct thread *self)
{
    uint32_t rights;
    const struct cap *cap = argument(self, &rights);

    (void)core;
    if (!cap) {
        return E_BADCAP;
    }
    self->frame.rdx = rights;
    return cap->object->type;
}

/*
 * Delete and revoke go on where they were by looking the handle (words[0]) up again: what is done
 * already is no longer there. reap() comes last, for what ended. A thread that ends in its own call
 * has no table any more.
 */
static struct cap *look_again(const struct thread *self)
{
    return self->space ? cap_lookup(self->space, self->words[0]) : NULL;
}

static void delete_continue(struct core *core, struct thread *self);
static void revoke_continue(struct core *core, struct thread *self);

/* Whoever else deletes it, all who have found it are told E_OK. */
static int64_t deleting(struct core *core, struct thread *self)
{
    struct cap *cap = look_again(self);

    if (cap && !cap_remove(core, self, cap, self->words[0])) {
        return continue_with(self, delete_continue);
    }
    return reap(core, self, E_OK);
}

static void delete_continue(struct core *core, struct thread *self)
{
    deleting(core, self);
}

/* E_OK says that nothing is derived from it any more. If it has gone or moved meanwhile, some may be left. */
static int64_t revoking(struct core *core, struct thread *self)
{
    struct cap *cap = look_again(self);
    int error = cap ? cap_revoke_some(core, self, cap, self->words[0]) : E_BADCAP;

    return error == E_AGAIN ? continue_with(self, revoke_continue) : reap(core, self, error);
}

static void revoke_continue(struct core *core, struct thread *self)
{
    revoking(core, self);
}

int64_t sys_cap_delete(struct core *core, struct thread *self)
{
    self->words[0] = ARG0(self);
    if (!cap_lookup(self->space, ARG0(self))) {
        return E_BADCAP;
    }
    return deleting(core, self);
}

int64_t sys_cap_revoke(struct core *core, struct thread *self)
{
    uint32_t rights;

    self->words[0] = ARG0(self);
    if (!argument(self, &rights)) {
        return E_BADCAP;
    }
    if (!(rights & RIGHT_REVOKE)) {
        return E_RIGHTS;
    }
    return revoking(core, self);
}
