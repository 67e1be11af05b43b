/* SPDX-License-Identifier: MIT */
#include "user/bench/metric.h"

#include <stdarg.h>
#include <stddef.h>

#include "user/libos/console.h"
#include "user/libos/format.h"
#include "user/libos/print.h"
#include "user/libos/start.h"
#include "user/libos/syscall.h"

unsigned metric_failures;
static char lines[8192];
static size_t used;

__attribute__((format(printf, 1, 2))) static void keep(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    int length = vsnprintf(lines + used, sizeof(lines) - used, format, arguments);
    va_end(arguments);
    if ((size_t)length >= sizeof(lines) - used) {
        die("too many figures");
    }
    used += (size_t)length;
}

void metric_add(struct metric *metric, uint64_t sample)
{
    if (metric->samples == 0 || sample < metric->min) {
        metric->min = sample;
    }
    if (sample > metric->max) {
        metric->max = sample;
    }
    metric->sum += sample;
    metric->samples++;
}

void metric_report(const struct metric *metric)
{
    uint64_t mean = metric->samples ? metric->sum * 100 / metric->samples : 0;

    if (metric->samples == 0) {
        keep("bench failed: %s was not measured\n", metric->name);
        metric_failures++;
        return;
    }
    keep("bench: %s %s %lu %lu.%02lu %lu %lu\n", metric->name,
         metric->unit ? metric->unit : "instructions", metric->min, mean / 100, mean % 100,
         metric->max, metric->samples);
}

void metric_report_one(const char *name, const char *unit, uint64_t value)
{
    struct metric metric = {.name = name, .unit = unit};

    metric_add(&metric, value);
    metric_report(&metric);
}

void metric_print(void)
{
    sys_thread_cancel(0); /* of nobody: the harness waits for this call, and stops watching */
    console_write(lines, used);
    printf("bench: end\n");
}
