/* bench_report.h - what `dla bench` prints: rows of a table, a table of layers, JSON. */
#ifndef DLA_CLI_BENCH_REPORT_H
#define DLA_CLI_BENCH_REPORT_H

#include <dla/dla.h>
#include <jansson.h>

void print_bench_header(const dla_benchmark *benchmark);   /* of a table whose rows are on its device */
void print_bench_row(const dla_benchmark *benchmark, const dla_census *census);

/* A line a step, then what the steps of each kernel took, the limits of the machine and the plan's memory. */
void print_bench_layers(const dla_benchmark *benchmark);

/* One entry of the array; with its layers and the machine's limits where they were measured. */
json_t *bench_json(const dla_benchmark *benchmark, const dla_census *census);

#endif
