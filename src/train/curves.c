/* curves.c - a run's loss and accuracy as an SVG, from its log.jsonl.
 *
 * Two panels above one axis of epochs: the training loss (every step as a faint line, its moving mean as a strong one, the
 * validation loss as dots) and the accuracy (training, validation).
 */
#include "base/file.h"
#include "base/memory.h"
#include "base/status.h"
#include "base/text_stream.h"

#include <ctype.h>
#include <jansson.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

enum {
    PATH_SIZE = 4096,
    MAX_LOG_BYTES = 1 << 30,
    WIDTH = 800,
    HEIGHT = 560,
    LEFT = 70,
    RIGHT = 20,
    PANEL = 220,
    TOP = 40,
    GAP = 30,
    MOST_POINTS = 1500
};

struct point {
    double epoch, loss, top1, val_loss, val_top1;
    bool is_epoch;
};

struct curve {
    struct point *points;
    size_t count, capacity;
    char score[32], val_score[32]; /* what top1 and val_top1 are */
};

static double real_of(const json_t *object, const char *key)
{
    const json_t *number = json_object_get(object, key);
    return json_is_number(number) ? json_number_value(number) : NAN;
}

static dla_status add_point(struct curve *curve, struct point point)
{
    if (curve->count == curve->capacity) {
        size_t capacity = curve->capacity ? 2 * curve->capacity : 1024;
        struct point *larger = memory_resize(curve->points, capacity * sizeof(*larger));
        if (larger == NULL)
            return status_out_of_memory(capacity * sizeof(*larger), "a run's curves");
        curve->points = larger;
        curve->capacity = capacity;
    }
    curve->points[curve->count++] = point;
    return DLA_OK;
}

/* Names come out of a file and go into XML: letters, digits, blanks and '-' are kept. */
static void take_name(char name[32], const json_t *text)
{
    size_t length = 0;
    const char *c = json_string_value(text);
    for (; c && *c && length < 31; c++)
        if (isalnum((unsigned char)*c) || *c == ' ' || *c == '-')
            name[length++] = *c;
    if (c)
        name[length] = '\0';
}

/* Steps become epochs: the last finished epoch says how many make one. */
static dla_status read_log(const char *path, struct curve *curve)
{
    char *text;
    size_t length;
    double last_step = 0.0, epoch_steps = 0.0;
    int number = 0;
    dla_status status = file_read_text(path, MAX_LOG_BYTES, &text, &length);
    if (status != DLA_OK)
        return status;
    for (char *line = text, *next; status == DLA_OK && *line; line = next) {
        json_error_t error;
        char *end = strchr(line, '\n');
        next = end ? end + 1 : line + strlen(line);
        number++;
        json_t *object = json_loadb(line, (size_t)(next - line), 0, &error);
        if (object == NULL) {
            status = status_set(DLA_ERROR_FORMAT, "%s: line %d is not JSON: %s", path, number, error.text);
            break;
        }
        const char *kind = json_string_value(json_object_get(object, "kind"));
        struct point point = {.epoch = real_of(object, "step"),
                              .loss = real_of(object, "loss"),
                              .top1 = real_of(object, "top1"),
                              .val_loss = real_of(object, "val_loss")};
        point.val_top1 = real_of(object, "val_top1");
        point.is_epoch = kind && strcmp(kind, "epoch") == 0;
        take_name(curve->score, json_object_get(object, "score"));
        take_name(curve->val_score, json_object_get(object, "val_score"));
        if (point.is_epoch && real_of(object, "epoch") > 0.0)
            epoch_steps = point.epoch / real_of(object, "epoch");
        last_step = point.epoch;
        json_decref(object);
        status = add_point(curve, point);
    }
    memory_free(text);
    if (status == DLA_OK && curve->count == 0)
        status = status_set(DLA_ERROR_FORMAT, "%s: has no steps yet", path);
    for (size_t i = 0; i < curve->count; i++)
        curve->points[i].epoch /= epoch_steps > 0.0 ? epoch_steps : fmax(last_step, 1.0);
    return status;
}

struct panel {
    double top, low, high, epochs;
};

static double x_of(const struct panel *p, double epoch)
{
    return LEFT + (WIDTH - LEFT - RIGHT) * epoch / p->epochs;
}

static double y_of(const struct panel *p, double y)
{
    return p->top + PANEL * (1.0 - (fmin(fmax(y, p->low), p->high) - p->low) / (p->high - p->low));
}

static void draw_axes(FILE *out, const struct panel *p, const char *title, bool percent)
{
    fprintf(out, "<text x=\"%d\" y=\"%.0f\" class=\"title\">%s</text>\n", LEFT, p->top - 8, title);
    for (int i = 0; i <= 4; i++) {
        double y = p->low + (p->high - p->low) * i / 4;
        fprintf(out, "<path d=\"M%d %.1fH%d\" class=\"grid\"/><text x=\"%d\" y=\"%.1f\" class=\"left\">", LEFT, y_of(p, y), WIDTH - RIGHT,
                LEFT - 8, y_of(p, y) + 4);
        fprintf(out, percent ? "%.0f %%</text>\n" : "%.2f</text>\n", percent ? 100.0 * y : y);
    }
}

/* A line through the points of one kind; mean > 0: through their exponential mean. */
static void draw_line(FILE *out, const struct curve *curve, const struct panel *p, size_t offset, bool epochs, double mean,
                      const char *style)
{
    double smooth = NAN;
    size_t steps = 0, index = 0;
    const char *move = "M";
    for (size_t i = 0; i < curve->count; i++)
        steps += curve->points[i].is_epoch == epochs;
    size_t every = steps / MOST_POINTS + 1;
    fprintf(out, "<path class=\"%s\" d=\"", style);
    for (size_t i = 0; i < curve->count; i++) {
        double y;
        memcpy(&y, (const char *)&curve->points[i] + offset, sizeof(y));
        if (curve->points[i].is_epoch != epochs || !isfinite(y))
            continue;
        smooth = isnan(smooth) ? y : mean * smooth + (1.0 - mean) * y;
        if (index++ % every == 0 || index == steps) {
            fprintf(out, "%s%.1f %.1f", move, x_of(p, curve->points[i].epoch), y_of(p, smooth));
            move = "L";
        }
    }
    fputs("\"/>\n", out);
}

static void draw(FILE *out, const struct curve *curve)
{
    struct panel loss = {.top = TOP, .low = 0.0, .high = 0.0, .epochs = 0.0},
                 accuracy = {.top = TOP + PANEL + 2 * GAP, .low = 0.0, .high = 1.0};
    for (size_t i = 0; i < curve->count; i++) {
        if (isfinite(curve->points[i].loss))
            loss.high = fmax(loss.high, curve->points[i].loss);
        loss.epochs = fmax(loss.epochs, curve->points[i].epoch);
    }
    loss.high = loss.high > 0.0 ? loss.high : 1.0;
    loss.epochs = loss.epochs > 0.0 ? loss.epochs : 1.0;
    accuracy.epochs = loss.epochs;
    fprintf(out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" font-family=\"sans-serif\" font-size=\"12\">\n"
            "<style>.title{font-weight:bold}.left{text-anchor:end}.axis{text-anchor:middle}.grid{stroke:#ddd;fill:none}.faint{stroke:#"
            "9bbfe0;fill:none}"
            ".train{stroke:#1f5fa8;fill:none;stroke-width:2}.val{stroke:#c8501e;fill:none;stroke-width:2}</style>\n<rect width=\"100%%\" "
            "height=\"100%%\" fill=\"white\"/>\n",
            WIDTH, HEIGHT);
    draw_axes(out, &loss, "loss", false);
    draw_line(out, curve, &loss, offsetof(struct point, loss), false, 0.0, "faint");
    draw_line(out, curve, &loss, offsetof(struct point, loss), false, 0.95, "train");
    draw_line(out, curve, &loss, offsetof(struct point, val_loss), true, 0.0, "val");
    char title[80];
    if (strcmp(curve->score, curve->val_score) == 0)
        snprintf(title, sizeof(title), "%s", curve->score);
    else
        snprintf(title, sizeof(title), "%s, validation: %s", curve->score, curve->val_score);
    draw_axes(out, &accuracy, title, true);
    draw_line(out, curve, &accuracy, offsetof(struct point, top1), true, 0.0, "train");
    draw_line(out, curve, &accuracy, offsetof(struct point, val_top1), true, 0.0, "val");
    for (int i = 0; i <= 5; i++)
        fprintf(out, "<text x=\"%.1f\" y=\"%.0f\" class=\"axis\">%.3g</text>\n", x_of(&accuracy, accuracy.epochs * i / 5),
                accuracy.top + PANEL + 18, accuracy.epochs * i / 5);
    fprintf(out, "<text x=\"%d\" y=\"%.0f\" class=\"axis\">epoch</text>\n", (WIDTH + LEFT - RIGHT) / 2, accuracy.top + PANEL + 36);
    fprintf(out,
            "<path d=\"M%d 20h24\" class=\"train\"/><text x=\"%d\" y=\"24\">training</text><path d=\"M%d 20h24\" class=\"val\"/><text "
            "x=\"%d\" y=\"24\">validation</text>\n</svg>\n",
            WIDTH - 230, WIDTH - 200, WIDTH - 130, WIDTH - 100);
}

dla_status dla_train_plot(const char *run)
{
    char path[PATH_SIZE];
    struct curve curve = {.score = "top-1", .val_score = "top-1"};
    struct text_stream stream;
    if (run == NULL)
        return status_set(DLA_ERROR_ARGUMENT, "no run to plot");
    snprintf(path, sizeof(path), "%s/log.jsonl", run);
    dla_status status = read_log(path, &curve);
    if (status == DLA_OK) {
        text_stream_open(&stream);
        if (stream.file)
            draw(stream.file, &curve);
        char *svg = text_stream_close(&stream);
        snprintf(path, sizeof(path), "%s/curves.svg", run);
        status = svg ? file_write(path, svg, strlen(svg)) : status_out_of_memory(1, "a run's curves");
        memory_free(svg);
    }
    memory_free(curve.points);
    return status;
}
