/* SPDX-License-Identifier: MIT */
/*
 * A balanced tree (AVL) of nodes that lie inside other structures, by key. Keys are unique; one may
 * be changed in place as long as the order stays. Logarithmic, without recursion or allocation.
 */
#ifndef ONESTACK_LIB_TREE_H
#define ONESTACK_LIB_TREE_H

#include <stdint.h>

struct tree_node {
    struct tree_node *parent;
    struct tree_node *child[2]; /* 0: smaller keys, 1: larger ones */
    uint64_t key;
    int32_t balance; /* height of child[1] less that of child[0]: -1, 0, 1 */
};

struct tree {
    struct tree_node *root;
};

void tree_insert(struct tree *tree, struct tree_node *node);
void tree_remove(struct tree *tree, struct tree_node *node);
/* The node with the largest key <= `key`, or NULL. */
struct tree_node *tree_floor(const struct tree *tree, uint64_t key);
/* The next larger one, or NULL. */
struct tree_node *tree_next(const struct tree_node *node);

#endif
