/* classify.c - the three most probable classes of a photograph, with the built-in network. */
#include <dla/dla.h>

#include <stdio.h>

int main(int argc, char **argv)
{
    dla_model *model = NULL;
    dla_classifier *classifier = NULL;
    dla_class_score best[3];
    int status = 1;

    if (argc != 2) {
        fprintf(stderr, "usage: classify PHOTO\n");
        return 2;
    }
    if (dla_model_open(NULL, &model) != DLA_OK
        || dla_classifier_create(model, NULL, &classifier) != DLA_OK
        || dla_classifier_classify_file(classifier, argv[1], 3, best) != DLA_OK) {
        fprintf(stderr, "%s\n", dla_error_message());
        goto out;
    }
    for (int i = 0; i < 3; i++)
        printf("%5.1f %%  %s\n", 100.0 * (double)best[i].probability, best[i].label);
    status = 0;
out:
    dla_classifier_destroy(classifier);
    dla_model_close(model);
    return status;
}
