/* SPDX-License-Identifier: MIT */
#include "kernel/obj/irq.h"

#include "kernel/arch/ioapic.h"
#include "kernel/arch/irq_flag.h"
#include "kernel/arch/lapic.h"
#include "kernel/arch/vectors.h"
#include "kernel/lib/cache_line.h"
#include "kernel/mail.h"
#include "kernel/obj/range.h"
#include "kernel/sched.h"
#include "kernel/syscall.h"

struct object irq_object SHARED = {.type = OBJ_IRQ, .references = 1};

/* Guarded by irq_object.lock; `wiring` and `vector` are also read by irq_accept(). */
struct line {
    struct cap *cap;                   /* it was bound by; NULL: not bound, and masked */
    struct notification *notification; /* a reference is held */
    uint64_t bits;
    uint64_t count; /* arrived since the last acknowledge */
    struct acpi_line wiring;
    uint8_t vector;
};

static struct line lines[IRQ_LINES] SHARED;

/* The IOAPICs' registers are touched on this core only (E13). */
#define IOAPIC_CORE 0
/* Lines that others have released; they set bits. */
static uint64_t unroute[(IRQ_LINES + 63) / 64] SHARED;

/* The line that a vector was given to, or NULL. */
static struct line *vector_lines[VECTOR_DEVICE_LAST + 1 - VECTOR_DEVICE_FIRST];

void irq_init(const struct acpi_info *acpi)
{
    for (unsigned i = 0; i < IRQ_LINES; i++) {
        /* What no table describes is a PCI interrupt: level triggered, active low. */
        lines[i].wiring = i < ACPI_ISA_IRQS ? acpi->isa[i] : (struct acpi_line){i, true, true};
    }
}

static struct line *line_of_vector(unsigned vector)
{
    if (vector < VECTOR_DEVICE_FIRST || vector > VECTOR_DEVICE_LAST) {
        return NULL;
    }
    return vector_lines[vector - VECTOR_DEVICE_FIRST];
}

/* One that is level triggered is masked, so that it does not come again until its driver acknowledges. */
static inline struct line *irq_accept(unsigned vector)
{
    struct line *line = line_of_vector(vector);

    if (line && line->wiring.level) {
        ioapic_mask(line->wiring.gsi);
    }
    return line;
}

void irq_record(struct core *core, unsigned vector)
{
    core->irq_pending[vector / 64] |= 1ULL << vector % 64;
    core_set_pending(core, CORE_PENDING_IRQ);
    irq_accept(vector);
}

/* Send `count` interrupts of a line to its notification, if there is one. */
static void deliver(struct core *core, struct line *line, uint64_t count)
{
    struct notification *notification;
    uint64_t bits;

    lock_acquire(&irq_object.lock);
    line->count += count;
    bits = line->bits;
    notification = line->notification;
    if (notification) {
        object_ref(&notification->object);
    }
    lock_release(&irq_object.lock);
    if (notification) {
        notification_signal(core, notification, bits);
        object_unref(&notification->object);
    }
}

void irq_event(struct core *core, unsigned vector)
{
    struct line *line = line_of_vector(vector);

    if (line) {
        deliver(core, line, 1);
    }
}

/*
 * The case that drivers live in: nothing is contended, and the line's driver waits on this core, or
 * nobody waits. The line's lock keeps the notification alive meanwhile, so no reference is taken; and
 * `lock_try`, for no other way takes a lock inside that one.
 */
static bool give(struct core *core, struct line *line, struct thread **waiter)
{
    struct notification *notification;
    bool given = false;

    if (UNLIKELY(!lock_try(&irq_object.lock))) {
        return false;
    }
    notification = line->notification;
    if (LIKELY(notification && lock_try(&notification->object.lock))) {
        given = notification_give(core, notification, line->bits, waiter);
        lock_release(&notification->object.lock);
        line->count += given;
    }
    lock_release(&irq_object.lock);
    return given;
}

void irq_user(struct core *core, unsigned vector)
{
    struct line *line = irq_accept(vector);
    struct thread *waiter;

    lapic_eoi();
    if (ENTRY_IRQ_OPEN) {
        cpu_sti();
    }
    if (!line) {
        return;
    }
    if (UNLIKELY(!give(core, line, &waiter))) {
        deliver(core, line, 1);
    } else if (waiter) {
        sched_hand_over(core, entry_current(core), waiter);
    }
}

void irq_nmi_event(struct core *core, uint64_t count)
{
    deliver(core, &lines[IRQ_LINE_NMI], count);
}

/* 0 = all are taken. The lock is held, as below. */
static uint8_t vector_alloc(unsigned line)
{
    for (unsigned i = 0; i < sizeof(vector_lines) / sizeof(vector_lines[0]); i++) {
        if (!vector_lines[i]) {
            vector_lines[i] = &lines[line];
            return (uint8_t)(VECTOR_DEVICE_FIRST + i);
        }
    }
    return 0;
}

/* The external NMI has no vector and no pin of an IOAPIC. */
static int connect(struct core *core, unsigned number)
{
    struct line *line = &lines[number];
    uint64_t flags;

    if (number == IRQ_LINE_NMI) {
        return E_OK;
    }
    if (!ioapic_has_line(line->wiring.gsi)) {
        return E_INVAL;
    }
    line->vector = vector_alloc(number);
    if (!line->vector) {
        return E_BUSY;
    }
    flags = irq_save();
    ioapic_route(&line->wiring, line->vector, (uint8_t)core->shared.lapic_id);
    ioapic_unmask(line->wiring.gsi);
    irq_restore(flags);
    return E_OK;
}

static void disconnect(unsigned number)
{
    struct line *line = &lines[number];
    uint64_t flags;

    if (number == IRQ_LINE_NMI) {
        return;
    }
    vector_lines[line->vector - VECTOR_DEVICE_FIRST] = NULL;
    if (core_here()->id != IOAPIC_CORE) {
        __atomic_fetch_or(&unroute[number / 64], 1ULL << number % 64, __ATOMIC_ACQ_REL);
        flags = irq_save();
        lapic_send((uint8_t)core_at(IOAPIC_CORE)->shared.lapic_id, VECTOR_RESCHEDULE);
        irq_restore(flags);
        return;
    }
    flags = irq_save();
    ioapic_unroute(line->wiring.gsi);
    irq_restore(flags);
}

/* Masked, and free for others. */
static void release(unsigned number, const struct cap *cap)
{
    struct line *line = &lines[number];
    struct notification *notification = NULL;

    lock_acquire(&irq_object.lock);
    if (line->cap == cap) {
        disconnect(number);
        notification = line->notification;
        line->cap = NULL;
        line->notification = NULL;
    }
    lock_release(&irq_object.lock);
    if (notification) {
        object_unref(&notification->object);
    }
}

/* On the IOAPICs' core, under the lock: the pins of lines that others have released. */
static void unroute_released(void)
{
    for (unsigned word = 0; word < sizeof(unroute) / sizeof(unroute[0]); word++) {
        uint64_t bits = __atomic_exchange_n(&unroute[word], 0, __ATOMIC_ACQ_REL);

        while (bits) {
            struct line *line = &lines[word * 64 + (unsigned)__builtin_ctzll(bits)];

            bits &= bits - 1;
            if (!line->cap) {
                uint64_t flags = irq_save();

                ioapic_unroute(line->wiring.gsi);
                irq_restore(flags);
            }
        }
    }
}

void irq_release_event(struct core *core)
{
    if (core->id != IOAPIC_CORE) {
        return;
    }
    lock_acquire(&irq_object.lock);
    unroute_released();
    lock_release(&irq_object.lock);
}

void irq_cap_gone(struct core *core, struct cap *cap)
{
    struct range range = cap_range(cap);

    (void)core;
    if (range.count == 1) {
        release(range.first, cap);
    }
}

void irq_cap_moved(struct cap *to, struct cap *from)
{
    struct range range = cap_range(from);

    if (range.count == 1 && lines[range.first].cap == from) {
        lines[range.first].cap = to;
    }
}

/* The line that self's argument 0 names, and by which capability. */
static int64_t find_line(const struct thread *self, unsigned *number, struct cap **cap)
{
    *cap = cap_find(self->space, ARG0(self), RIGHT_IRQ_BIND);
    if (!*cap) {
        return cap_error(self->space, ARG0(self), OBJ_IRQ);
    }
    struct range range = cap_range(*cap);

    if (range.count != 1 || range.first >= IRQ_LINES) {
        return E_INVAL;
    }
    *number = range.first;
    return E_OK;
}

/*
 * By a capability that was looked up without the lock: it may be gone, and then nobody would release
 * the line. A vector that another core has given back may still be in an IOAPIC. The notification
 * comes with a reference, which is the line's if it is bound.
 */
static int bind(struct core *core, unsigned number, struct cap *cap, cap_t handle,
                struct notification *notification, uint64_t bits)
{
    struct line *line = &lines[number];
    int error = E_OK;

    lock_acquire(&irq_object.lock);
    unroute_released();
    if (cap->handle != handle || !cap->rights) {
        error = E_BADCAP;
    } else if (line->cap) {
        error = E_BUSY;
    } else {
        error = connect(core, number);
    }
    if (!error) {
        line->cap = cap;
        line->notification = notification;
        line->bits = bits;
        line->count = 0;
    }
    lock_release(&irq_object.lock);
    if (error) {
        object_unref(&notification->object);
    }
    return error;
}

int64_t sys_irq_bind(struct core *core, struct thread *self)
{
    if (core->id != IOAPIC_CORE) {
        return mail_go(core, self, core_at(IOAPIC_CORE), syscall_restart);
    }
    struct cap *cap, *signal;
    unsigned number;
    int64_t error = find_line(self, &number, &cap);

    if (error) {
        return error;
    }
    if (ARG1(self) == 0) {
        release(number, cap);
        return E_OK;
    }
    signal = cap_find(self->space, ARG1(self), RIGHT_NOTIFY_SIGNAL);
    if (!signal) {
        return cap_error(self->space, ARG1(self), OBJ_NOTIFICATION);
    }
    if (signal->object->dying || !object_try_ref(signal->object)) {
        return E_DEAD;
    }
    return bind(core, number, cap, ARG0(self), (struct notification *)signal->object,
                ARG2(self) ? ARG2(self) : signal->badge);
}

int64_t sys_irq_ack(struct core *core, struct thread *self)
{
    if (core->id != IOAPIC_CORE) {
        return mail_go(core, self, core_at(IOAPIC_CORE), syscall_restart);
    }
    struct cap *cap;
    unsigned number;
    int64_t error = find_line(self, &number, &cap);

    (void)core;
    if (error) {
        return error;
    }
    struct line *line = &lines[number];

    lock_acquire(&irq_object.lock);
    if (!line->cap) {
        error = E_INVAL;
    } else {
        self->frame.rdx = line->count;
        line->count = 0;
        if (number != IRQ_LINE_NMI && line->wiring.level) {
            uint64_t flags = irq_save();

            ioapic_unmask(line->wiring.gsi);
            irq_restore(flags);
        }
    }
    lock_release(&irq_object.lock);
    return error;
}
