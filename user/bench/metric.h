/* SPDX-License-Identifier: MIT */
/* Samples of one metric, and the line that the harness reads: `bench: NAME UNIT MIN MEAN MAX SAMPLES`. */
#ifndef ONESTACK_BENCH_METRIC_H
#define ONESTACK_BENCH_METRIC_H

#include <stdint.h>

struct metric {
    const char *name;
    const char *unit; /* NULL: instructions */
    uint64_t min, max, sum, samples;
};

void metric_add(struct metric *metric, uint64_t sample);
/*
 * Keep the line; one without samples is a failure and says so. Nothing is printed while there is still
 * something to measure: how fast the host takes output decides when the console is interrupted.
 */
void metric_report(const struct metric *metric);
/* A figure that is what it is. */
void metric_report_one(const char *name, const char *unit, uint64_t value);
/* Print all lines. */
void metric_print(void);
/* How many reports had nothing to tell. */
extern unsigned metric_failures;

#endif
