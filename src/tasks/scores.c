/* scores.c - softmax and the best classes.
 *
 *     probability_c = exp(logit_c - largest) / Σ_k exp(logit_k - largest)
 *
 * Subtracting the largest logit changes nothing in the quotient and keeps every exponential in 0 .. 1. The sum is kept in
 * double, so that a thousand small terms do not vanish beside a large one.
 */
#include "tasks/scores.h"

#include "base/status.h"

#include <math.h>

dla_status softmax_top(const float *logits, int class_count, int count, dla_class_score *scores)
{
    int kept = 0;
    double sum = 0.0;

    for (int c = 0; c < class_count; c++)
        if (!isfinite(logits[c]))
            return status_set(DLA_ERROR_MISMATCH,
                              "the network gives %g for class %d, no finite number; its weights are damaged or do not belong to it",
                              (double)logits[c], c);
    /* scores[0 .. kept) are the best so far, sorted; a new class moves up past smaller ones, never past equal ones. */
    for (int c = 0; c < class_count; c++) {
        if (kept == count && !(logits[c] > scores[kept - 1].probability))
            continue;
        int place = kept < count ? kept++ : kept - 1;
        for (; place > 0 && logits[c] > scores[place - 1].probability; place--)
            scores[place] = scores[place - 1];
        scores[place] = (dla_class_score){.index = c, .probability = logits[c]};
    }
    double largest = (double)scores[0].probability;
    for (int c = 0; c < class_count; c++)
        sum += exp((double)logits[c] - largest);
    for (int i = 0; i < kept; i++)
        scores[i].probability = (float)(exp((double)scores[i].probability - largest) / sum);
    return DLA_OK;
}
