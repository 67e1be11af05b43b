/* SPDX-License-Identifier: MIT */
#include "kernel/lib/tree.h"

#include <stddef.h>

/* Which child of its parent a node is. */
static int side_of(const struct tree_node *node)
{
    return node->parent->child[1] == node;
}

/* Put `node` (may be NULL) where `old` hangs. */
static void replace(struct tree *tree, struct tree_node *old, struct tree_node *node)
{
    if (old->parent == NULL) {
        tree->root = node;
    } else {
        old->parent->child[side_of(old)] = node;
    }
    if (node != NULL) {
        node->parent = old->parent;
    }
}

/* The child on the other side comes up, `node` goes down to `side`. Balances are the caller's. */
static struct tree_node *rotate(struct tree *tree, struct tree_node *node, int side)
{
    struct tree_node *up = node->child[!side];
    struct tree_node *middle = up->child[side];

    replace(tree, node, up);
    up->child[side] = node;
    node->parent = up;
    node->child[!side] = middle;
    if (middle != NULL) {
        middle->parent = node;
    }
    return up;
}

/*
 * `node` is two higher on the side of `sign` (-1, 1). Returns what stands in its place; its balance
 * is 0 when the subtree became one lower, else its height is as it was.
 */
static struct tree_node *rebalance(struct tree *tree, struct tree_node *node, int sign)
{
    int side = sign > 0;
    struct tree_node *heavy = node->child[side];

    if (heavy->balance != -sign) {
        struct tree_node *up = rotate(tree, node, !side);

        node->balance = up->balance == 0 ? sign : 0;
        up->balance = up->balance == 0 ? -sign : 0;
        return up;
    }
    struct tree_node *inner = heavy->child[!side];

    rotate(tree, heavy, side);
    rotate(tree, node, !side);
    node->balance = inner->balance == sign ? -sign : 0;
    heavy->balance = inner->balance == -sign ? sign : 0;
    inner->balance = 0;
    return inner;
}

void tree_insert(struct tree *tree, struct tree_node *node)
{
    struct tree_node *parent = NULL;
    struct tree_node **link = &tree->root;

    while (*link != NULL) {
        parent = *link;
        link = &parent->child[node->key > parent->key];
    }
    *node = (struct tree_node){.parent = parent, .key = node->key};
    *link = node;
    while (parent != NULL) { /* the subtree `node` became one higher */
        int sign = side_of(node) ? 1 : -1;

        if (parent->balance == sign) {
            rebalance(tree, parent, sign);
            return;
        }
        parent->balance += sign;
        if (parent->balance == 0) {
            return;
        }
        node = parent;
        parent = node->parent;
    }
}

/* The child on `side` of `parent` became one lower. */
static void shrunk(struct tree *tree, struct tree_node *parent, int side)
{
    while (parent != NULL) {
        int sign = side ? -1 : 1; /* it leans to the other side now */
        struct tree_node *up = parent;

        if (parent->balance == sign) {
            up = rebalance(tree, parent, sign);
        } else {
            parent->balance += sign;
        }
        if (up->balance != 0) {
            return;
        }
        parent = up->parent;
        if (parent != NULL) {
            side = side_of(up);
        }
    }
}

/* A node with both children changes places with the next larger, which has at most one. */
static void swap_with_next(struct tree *tree, struct tree_node *node)
{
    struct tree_node *next = tree_next(node);
    struct tree_node old = *node;
    struct tree_node *below = next->child[1];

    node->child[0] = NULL;
    node->child[1] = below;
    node->balance = next->balance;
    if (below != NULL) {
        below->parent = node;
    }
    if (next->parent == node) {
        replace(tree, node, next);
        next->child[1] = node;
        node->parent = next;
    } else {
        struct tree_node *parent = next->parent;

        replace(tree, node, next);
        next->child[1] = old.child[1];
        next->child[1]->parent = next;
        parent->child[0] = node; /* next was the leftmost below node's right child */
        node->parent = parent;
    }
    next->child[0] = old.child[0];
    next->child[0]->parent = next;
    next->balance = old.balance;
}

void tree_remove(struct tree *tree, struct tree_node *node)
{
    if (node->child[0] != NULL && node->child[1] != NULL) {
        swap_with_next(tree, node);
    }
    struct tree_node *parent = node->parent;
    int side = parent != NULL && side_of(node);

    replace(tree, node, node->child[node->child[0] == NULL]);
    shrunk(tree, parent, side);
}

struct tree_node *tree_floor(const struct tree *tree, uint64_t key)
{
    struct tree_node *found = NULL;
    struct tree_node *node = tree->root;

    while (node != NULL) {
        if (node->key <= key) {
            found = node;
        }
        node = node->child[node->key <= key];
    }
    return found;
}

struct tree_node *tree_next(const struct tree_node *node)
{
    if (node->child[1] != NULL) {
        struct tree_node *next = node->child[1];

        while (next->child[0] != NULL) {
            next = next->child[0];
        }
        return next;
    }
    while (node->parent != NULL && side_of(node)) {
        node = node->parent;
    }
    return node->parent;
}
