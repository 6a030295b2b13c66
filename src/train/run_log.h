/* run_log.h - what a run writes down: log.jsonl, curves.svg, TensorBoard events.
 *
 * log.jsonl has one object a line, {"kind": "step", ...} or {"kind": "epoch", ...}. A resumed run first takes out what lies
 * behind its checkpoint, so that the file reads as if there had been no interruption.
 */
#ifndef DLA_TRAIN_RUN_LOG_H
#define DLA_TRAIN_RUN_LOG_H

#include <dla/dla.h>

struct run_log;

/* Opens RUN/log.jsonl for appending, after dropping entries of steps behind `step`, and a new event file. */
dla_status run_log_open(const char *run, int64_t step, struct run_log **log);
dla_status run_log_event(struct run_log *log, const dla_train_event *event);
dla_status run_log_flush(struct run_log *log);
void run_log_close(struct run_log *log);

/* TensorBoard's format (event_file.c): a record is a protocol buffer between lengths and checksums. */
struct event_file;
dla_status event_file_create(const char *run, struct event_file **file);
dla_status event_file_scalar(struct event_file *file, int64_t step, const char *tag, double number);
dla_status event_file_flush(struct event_file *file);
void event_file_close(struct event_file *file);

#endif
