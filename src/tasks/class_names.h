/* class_names.h - which class of a model a name means. */
#ifndef DLA_TASKS_CLASS_NAMES_H
#define DLA_TASKS_CLASS_NAMES_H

#include <dla/dla.h>

enum { NO_CLASS = -1, AMBIGUOUS_CLASS = -2 };

/* The class whose wnid, else whole label, else one of whose label's names (between commas) this is. Case does not matter, nor
 * whether words are joined by blanks, '_' or '-'. AMBIGUOUS_CLASS where two are equally good ("crane" is a bird and a machine). */
int class_by_name(const dla_model *model, const char *name);

#endif
