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

#define PIT_HZ 1193182ul
#define PIT_CHANNEL2 0x42
#define PIT_COMMAND 0x43
#define PIT_CHANNEL2_MODE0 0xb0 /* low byte, high byte, count down once, binary */
#define PIT_LATCH_CHANNEL2 0x80
#define PORT_B 0x61
#define PORT_B_GATE2 0x01
#define PORT_B_SPEAKER 0x02

#define DOUBT 2000               /* one part in so many */
#define PIT_TICKS_MAX 48000u     /* 40 ms; the counter wraps after 65,536 */
#define PIT_POLLS_MAX 100000     /* for one tick of 0.8 us: the PIT does not count */
#define LAPIC_NS_MAX 40000000ul

struct clock machine_clock;

/* A moment: the other clock's reading, and the TSC in the middle of the doubt about it. */
struct sample {
    uint64_t tsc;
    uint64_t doubt;
    uint32_t count;
};

static uint16_t pit_read(uint64_t *before, uint64_t *after)
{
    *before = rdtsc();
    outb(PIT_COMMAND, PIT_LATCH_CHANNEL2);
    *after = rdtsc();
    uint8_t low = inb(PIT_CHANNEL2);

    return (uint16_t)(low | inb(PIT_CHANNEL2) << 8);
}

/* The next moment at which the PIT's counter changes: between two readings that differ. */
static bool sample_pit(struct sample *sample)
{
    uint64_t before, after, next_before;
    uint16_t first = pit_read(&before, &after);

    for (uint32_t polls = 0; polls < PIT_POLLS_MAX; polls++) {
        uint16_t count = pit_read(&next_before, &after);

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

/* 0 if the PIT does not count. */
static uint64_t measure_tsc(void)
{
    struct sample start, end;
    uint32_t elapsed;

    start_pit();
    if (!sample_pit(&start)) {
        return 0;
    }
    do {
        if (!sample_pit(&end)) {
            return 0;
        }
        if (end.doubt < start.doubt / 2) {
            start = end; /* a much better start is worth the wait */
        }
        elapsed = (uint16_t)(start.count - end.count);
    } while (elapsed < PIT_TICKS_MAX &&
             (start.doubt + end.doubt) * DOUBT > end.tsc - start.tsc);
    return (end.tsc - start.tsc) * PIT_HZ / elapsed;
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

/* Runs the timer masked from its top; at 1 GHz it takes four seconds to zero. */
static uint64_t measure_lapic(uint64_t tsc_hz)
{
    uint64_t limit = tsc_hz / (NS_PER_SECOND / LAPIC_NS_MAX);
    uint32_t lvt = lapic_read(LAPIC_LVT_TIMER);
    struct sample start, end;

    lapic_write(LAPIC_LVT_TIMER, lvt | LAPIC_LVT_MASKED);
    lapic_timer_arm(UINT32_MAX);
    start = sample_lapic();
    do {
        end = sample_lapic();
    } while (end.tsc - start.tsc < limit &&
             ((start.doubt + end.doubt) * DOUBT > end.tsc - start.tsc ||
              start.count - end.count < DOUBT));
    lapic_timer_arm(0);
    lapic_write(LAPIC_LVT_TIMER, lvt);
    return (uint64_t)(start.count - end.count) * tsc_hz / (end.tsc - start.tsc);
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
    unsigned __int128 count = (unsigned __int128)ticks * machine_clock.lapic_per_tick >> CLOCK_SHIFT;

    /* One more, for the part that the shift cut off; and 0 would stop the timer. */
    lapic_timer_arm(count >= UINT32_MAX ? UINT32_MAX : (uint32_t)count + 1);
}

void clock_wake_never(void)
{
    lapic_timer_arm(0);
}
