/* text.h - names of trees, for drawings in text and pictures. */
#ifndef DLA_NET_TEXT_H
#define DLA_NET_TEXT_H

#include <stddef.h>

/* How much of a part's name is the name of the outermost tree whose result it is: an aggregation node
 * "level4.tree1.tree2.root" gives the result of "level4.tree1". For any other part, all of it. */
size_t part_tree_name_length(const char *name);

#endif
