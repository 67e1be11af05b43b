/* SPDX-License-Identifier: MIT */
#include "user/bench/metric.h"

#include "user/libos/print.h"

unsigned metric_failures;

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
        printf("bench failed: %s was not measured\n", metric->name);
        metric_failures++;
        return;
    }
    printf("bench: %s %s %lu %lu.%02lu %lu %lu\n", metric->name,
           metric->unit ? metric->unit : "instructions", metric->min, mean / 100, mean % 100,
           metric->max, metric->samples);
}

void metric_report_one(const char *name, const char *unit, uint64_t value)
{
    struct metric metric = {.name = name, .unit = unit};

    metric_add(&metric, value);
    metric_report(&metric);
}
