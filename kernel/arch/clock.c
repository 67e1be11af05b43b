/* SPDX-License-Identifier: MIT */
/*
 * Measuring the TSC against the PIT's channel 2 (Intel 8254 data sheet; port 0x61: ISA) and the LAPIC
 * timer against the TSC. A reading of the other clock lies somewhere between the TSC before and
 * after it; the measurement goes on until that doubt is a small enough part of the whole. So it
 * is as short as the machine allows (some 100,000 instructions under -icount), and a hypervisor
 * that takes the CPU away in the middle makes it longer, not wrong.
 */
#include "kernel/arch/clock.h"

#include "kernel/arch/lapic.h"

#define NS_PER_SECOND 1000000000ul

#define PIT_HZ             1193182ul
#define PIT_CHANNEL2       0x42
#define PIT_COMMAND        0x43
#define PIT_CHANNEL2_MODE0 0xb0 /* low byte, high byte, count down once, binary */
#define PIT_READ_BACK_2    0xc8 /* latch status and count of channel 2 */
#define PIT_STATUS_OUT     0x80 /* in mode 0: has passed zero */
#define PORT_B             0x61
#define PORT_B_GATE2       0x01
#define PORT_B_SPEAKER     0x02

#define PRECISION        2000   /* asked for: one part in so many */
#define PRECISION_LAST   16     /* accepted where ports are slow, as in a nested hypervisor */
#define PIT_COUNT_LAST   16000  /* of 65,535: 41 ms, and some room before it passes zero */
#define PIT_POLLS_MAX    100000 /* for one tick of 0.8 us: the PIT does not count */
#define LAPIC_COUNT_LAST 0x10000000

struct clock machine_clock;

/* A moment: the other clock's reading, and the TSC in the middle of the doubt about it. */
struct sample {
    uint64_t tsc;
    uint64_t doubt;
    uint32_t count;
};

/* False once the counter has passed zero: nobody knows how often. */
static bool read_pit(uint16_t *count, uint64_t *before, uint64_t *after)
{
    *before = rdtsc();
    outb(PIT_COMMAND, PIT_READ_BACK_2);
    *after = rdtsc();
    uint8_t status = inb(PIT_CHANNEL2);
    uint8_t low = inb(PIT_CHANNEL2);

    *count = (uint16_t)(low | inb(PIT_CHANNEL2) << 8);
    return !(status & PIT_STATUS_OUT);
}

/* The next moment at which the PIT's counter changes: between two readings that differ. */
static bool sample_pit(struct sample *sample)
{
    uint64_t before, after, next_before;
    uint16_t first, count;

    if (!read_pit(&first, &before, &after)) {
        return false;
    }
    for (uint32_t polls = 0; polls < PIT_POLLS_MAX; polls++) {
        if (!read_pit(&count, &next_before, &after)) {
            return false;
        }
        if (count != first) {
            *sample = (struct sample){
                .tsc = before + (after - before) / 2,
                .doubt = after - before,
                .count = count,
            };
            return true;
        }
        before = next_before;
    }
    return false;
}

static void start_pit(void)
{
    outb(PORT_B, (uint8_t)((inb(PORT_B) & ~PORT_B_SPEAKER) | PORT_B_GATE2));
    outb(PIT_COMMAND, PIT_CHANNEL2_MODE0);
    outb(PIT_CHANNEL2, 0xff);
    outb(PIT_CHANNEL2, 0xff);
}

/* Is the doubt about both moments less than one part in `precision` of the time between them? */
static bool good_enough(const struct sample *start, const struct sample *end, uint64_t precision)
{
    return (start->doubt + end->doubt) * precision <= end->tsc - start->tsc;
}

/* 0 if the PIT does not count, passed zero since the core was away for 55 ms, or is too slow. */
static uint64_t try_tsc(uint64_t precision)
{
    struct sample start, end;

    start_pit();
    if (!sample_pit(&start)) {
        return 0;
    }
    do {
        if (!sample_pit(&end)) {
            return 0;
        }
        if (end.count < start.count && good_enough(&start, &end, precision)) {
            return (end.tsc - start.tsc) * PIT_HZ / (start.count - end.count);
        }
        if (end.doubt < start.doubt / 2) {
            start = end; /* a much better start is worth the wait */
        }
    } while (end.count > PIT_COUNT_LAST);
    return 0;
}

static uint64_t measure_tsc(void)
{
    uint64_t hz = 0;

    for (uint64_t precision = PRECISION; precision >= PRECISION_LAST && hz == 0; precision /= 2) {
        hz = try_tsc(precision);
    }
    return hz;
}

/* CPUID leaf 15h: the crystal's frequency and the TSC's ratio to it (Intel SDM vol. 3, 18.7.3). */
static uint64_t tsc_hz_by_cpuid(void)
{
    uint32_t registers[4];

    cpu_cpuid(0, 0, registers);
    if (registers[0] < 0x15) {
        return 0;
    }
    cpu_cpuid(0x15, 0, registers);
    return registers[0] == 0 ? 0 : (uint64_t)registers[2] * registers[1] / registers[0];
}

static struct sample sample_lapic(void)
{
    uint64_t before = rdtsc();
    uint32_t count = lapic_read(LAPIC_TIMER_CURRENT);
    uint64_t doubt = rdtsc() - before;

    return (struct sample){.tsc = before + doubt / 2, .doubt = doubt, .count = count};
}

/* Runs the timer masked from its top; 0 if it does not count, or not for long enough. */
static uint64_t measure_lapic(uint64_t tsc_hz)
{
    uint32_t lvt = lapic_read(LAPIC_LVT_TIMER);
    uint64_t hz = 0;
    struct sample start, end;

    lapic_write(LAPIC_LVT_TIMER, lvt | LAPIC_LVT_MASKED);
    lapic_timer_arm(UINT32_MAX);
    start = sample_lapic();
    do {
        end = sample_lapic();
        /* The count itself is as doubtful as one tick. */
        if (start.count - end.count >= PRECISION && good_enough(&start, &end, PRECISION)) {
            hz = (uint64_t)(start.count - end.count) * tsc_hz / (end.tsc - start.tsc);
        } else if (end.doubt < start.doubt / 2) {
            start = end;
        }
    } while (hz == 0 && end.count > LAPIC_COUNT_LAST && end.tsc - start.tsc < tsc_hz);
    lapic_timer_arm(0);
    lapic_write(LAPIC_LVT_TIMER, lvt);
    return hz;
}

bool clock_init(void)
{
    struct clock *clock = &machine_clock;

    clock->tsc_hz = tsc_hz_by_cpuid();
    if (clock->tsc_hz == 0) {
        clock->tsc_hz = measure_tsc();
    }
    if (clock->tsc_hz == 0) {
        return false;
    }
    clock->lapic_hz = measure_lapic(clock->tsc_hz);
    clock->ns_per_tick = (NS_PER_SECOND << 32) / clock->tsc_hz;
    clock->ticks_per_ns = (clock->tsc_hz << CLOCK_SHIFT) / NS_PER_SECOND;
    clock->lapic_per_tick = (clock->lapic_hz << CLOCK_SHIFT) / clock->tsc_hz;
    return clock->lapic_hz != 0;
}

void clock_wake_in(uint64_t ticks)
{
    unsigned __int128 count = (unsigned __int128)ticks * machine_clock.lapic_per_tick >>
                              CLOCK_SHIFT;

    /* One more, for the part that the shift cut off; and 0 would stop the timer. */
    lapic_timer_arm(count >= UINT32_MAX ? UINT32_MAX : (uint32_t)count + 1);
}
