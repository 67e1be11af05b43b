/* SPDX-License-Identifier: MIT */
/*
 * What each vCPU executes, followed: which entries are open, whether IF is 0, what has begun and not yet
 * ended. windows.c has the rules by which IF is inferred.
 */
#include <pthread.h>
#include <string.h>

#include "shared.h"
#include "windows.h"

#define MAX_CPUS   256
#define MAX_DEPTH  32
#define MAX_PLACES 4096 /* a power of two */

enum kind { FREE, WINDOW, STRETCH, RECORDED };

struct place {
    uint64_t kind, first, path;
    uint64_t last; /* of the longest */
    uint64_t longest, count;
};

/* The file; windows.py reads it. */
static struct {
    uint64_t instructions;   /* of the kernel's, since counting began */
    uint64_t interrupts;     /* that came in */
    uint64_t contradictions; /* of those, with IF thought to be 0 */
    uint64_t lost;           /* places, for lack of room */
    struct place places[MAX_PLACES];
} * found;

/* What an entry interrupted. */
struct saved {
    uint64_t first, length;
    unsigned flag_count;
    bool off, excused;
    unsigned char shadow;
};

static struct vcpu {
    bool counts;                     /* it is up, and nothing has panicked */
    bool in_kernel;                  /* its last instruction was */
    bool off, excused;               /* IF=0: a window is open; it is not to be counted */
    unsigned char shadow;            /* 1: sti was executed, 2: and the instruction after it */
    const struct about *last;        /* instruction executed */
    uint64_t first, length;          /* of the window */
    uint64_t stretch_first, stretch; /* since the last look */
    uint64_t entry, entered;         /* an interrupt's, and instructions since; 0 = recorded */
    uint64_t path;
    unsigned depth, flag_count;
    struct saved saved[MAX_DEPTH];
    bool flags[MAX_DEPTH]; /* was IF 0 when pushfq kept it? */
} vcpus[MAX_CPUS];

static bool stopped;
static const struct about nothing;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

bool follow_start(const char *name)
{
    found = shared_file(name, sizeof(*found));
    return found != NULL;
}

/* The entry of a place in the table; NULL if that is full. */
static struct place *place_of(enum kind kind, uint64_t first, uint64_t path)
{
    uint64_t hash = (first + (path << 20) + (uint64_t)kind) * 0x9e3779b97f4a7c15ULL >> 40;

    for (unsigned i = 0; i < MAX_PLACES; i++) {
        struct place *place = &found->places[(hash + i) % MAX_PLACES];

        if (place->kind == FREE) {
            *place = (struct place){.kind = kind, .first = first, .path = path};
        }
        if (place->kind == kind && place->first == first && place->path == path) {
            return place;
        }
    }
    found->lost++;
    return NULL;
}

static void keep(const struct vcpu *cpu, enum kind kind, uint64_t first, uint64_t length)
{
    struct place *place;

    if (length == 0 || !cpu->counts) {
        return;
    }
    pthread_mutex_lock(&lock);
    place = place_of(kind, first, cpu->path);
    if (place) {
        place->count++;
        if (length > place->longest) {
            place->longest = length;
            place->last = cpu->last->address;
        }
    }
    pthread_mutex_unlock(&lock);
}

static void open_window(struct vcpu *cpu, uint64_t first)
{
    cpu->off = true;
    cpu->shadow = 0;
    cpu->first = first;
    cpu->length = 0;
}

static void close_window(struct vcpu *cpu)
{
    if (cpu->off && !cpu->excused) {
        keep(cpu, WINDOW, cpu->first, cpu->length);
    }
    cpu->off = cpu->excused = false;
    cpu->shadow = 0;
}

static void end_stretch(struct vcpu *cpu, uint64_t next)
{
    keep(cpu, STRETCH, cpu->stretch_first, cpu->stretch);
    cpu->stretch_first = next;
    cpu->stretch = 0;
}

/* It is back in user mode. */
static void leave(struct vcpu *cpu)
{
    close_window(cpu);
    end_stretch(cpu, 0);
    cpu->in_kernel = false;
    cpu->depth = cpu->flag_count = 0;
    cpu->entered = cpu->path = 0;
}

static void save(struct vcpu *cpu)
{
    if (cpu->depth == MAX_DEPTH) { /* of many that were given up only the last counts */
        cpu->depth--;
        memmove(&cpu->saved[0], &cpu->saved[1], cpu->depth * sizeof(cpu->saved[0]));
    }
    cpu->saved[cpu->depth++] = (struct saved){.first = cpu->first,
                                              .length = cpu->length,
                                              .flag_count = cpu->flag_count,
                                              .off = cpu->off,
                                              .excused = cpu->excused,
                                              .shadow = cpu->shadow};
}

/* Back to what an entry interrupted. */
static void restore(struct vcpu *cpu)
{
    struct saved saved = {0};

    if (cpu->depth > 0) {
        saved = cpu->saved[--cpu->depth];
    }
    cpu->flag_count = saved.flag_count;
    if (!saved.off) {
        close_window(cpu);
        return;
    }
    /* The window that it found open goes on, and what counts of it was a part of that. */
    if (cpu->excused) {
        cpu->length = saved.length;
    }
    cpu->first = saved.first;
    cpu->excused = saved.excused;
    cpu->shadow = saved.shadow;
    cpu->off = true;
}

static bool is_entry(const struct about *about)
{
    return about->mark == IRQ || about->mark == TRAP || about->mark == EXCUSED;
}

/* iretq went to `about`, or an interrupt came right after it. */
static void after_iret(struct vcpu *cpu, const struct about *about)
{
    if (is_entry(about) && cpu->depth == 0) {
        leave(cpu);
    } else if (about->address != cpu->last->next) { /* to there it goes to open NMIs, as it is */
        restore(cpu);
    }
    if (about->mark == RESTART && !cpu->off) {
        open_window(cpu, about->address);
    }
}

static void after_popf(struct vcpu *cpu)
{
    unsigned not_mine = cpu->depth > 0 ? cpu->saved[cpu->depth - 1].flag_count : 0;

    if (cpu->flag_count > not_mine && !cpu->flags[--cpu->flag_count]) {
        close_window(cpu);
    }
}

/* What the last instruction did, now that the next one, in the kernel, is known. */
static void settle(struct vcpu *cpu, const struct about *about)
{
    const struct about *last = cpu->last ? cpu->last : &nothing;

    switch (last->effect) {
    case CLI:
        cpu->shadow = 0;
        if (!cpu->off) {
            open_window(cpu, last->next);
        }
        break;
    case STI:
        cpu->shadow = cpu->off && cpu->shadow == 0 ? 1 : cpu->shadow;
        break;
    case PUSHF:
        cpu->flags[cpu->flag_count] = cpu->off;
        cpu->flag_count += cpu->flag_count < MAX_DEPTH - 1;
        break;
    case POPF:
        after_popf(cpu);
        break;
    case IRET:
        after_iret(cpu, about);
        break;
    case LRET:
        restore(cpu);
        break;
    case SYSRET:
        leave(cpu);
        break;
    case HLT:
        end_stretch(cpu, about->address);
        break;
    default:
        break;
    }
    if (cpu->shadow == 2) {
        close_window(cpu);
    }
}

static void enter(struct vcpu *cpu, const struct about *about)
{
    if (cpu->in_kernel) {
        save(cpu);
        cpu->shadow = 0;
    } else {
        cpu->path = cpu->stretch_first = about->address;
    }
    if (about->mark == IRQ) {
        found->interrupts += cpu->counts;
        found->contradictions += cpu->counts && cpu->off;
        cpu->entry = about->address;
        cpu->entered = 1;
    }
    if (!cpu->off) {
        open_window(cpu, about->address);
    }
    cpu->excused |= about->mark == EXCUSED;
}

static void at_mark(struct vcpu *cpu, const struct about *about)
{
    switch (about->mark) {
    case OUTERMOST:
        if (!cpu->counts && !stopped) { /* what was before is the way up */
            cpu->counts = true;
            cpu->stretch = 0;
        }
        cpu->depth = cpu->flag_count = 0;
        break;
    case RECORD:
        if (cpu->entered) {
            keep(cpu, RECORDED, cpu->entry, cpu->entered);
        }
        cpu->entered = 0;
        break;
    case LOOK:
        end_stretch(cpu, about->address);
        break;
    case PATH:
        cpu->path = about->address;
        break;
    default:
        break;
    }
}

void follow_kernel(unsigned number, void *data)
{
    const struct about *about = data;
    struct vcpu *cpu = &vcpus[number % MAX_CPUS];

    settle(cpu, about);
    if (is_entry(about)) {
        enter(cpu, about);
    } else if (!cpu->in_kernel) { /* by syscall */
        cpu->path = cpu->stretch_first = about->address;
        open_window(cpu, about->address);
    }
    cpu->in_kernel = true;
    cpu->last = about;
    cpu->length += cpu->off;
    cpu->shadow += cpu->shadow == 1;
    cpu->stretch += !cpu->excused;
    cpu->entered += cpu->entered != 0;
    found->instructions += cpu->counts;
    if (about->mark == STOP) {
        stopped = true;
        for (unsigned i = 0; i < MAX_CPUS; i++) {
            vcpus[i].counts = false;
        }
    } else if (about->mark != NO_MARK) {
        at_mark(cpu, about);
    }
}

void follow_user(unsigned number, void *data)
{
    struct vcpu *cpu = &vcpus[number % MAX_CPUS];

    (void)data;
    if (cpu->in_kernel) {
        leave(cpu);
    }
    cpu->last = &nothing;
}
