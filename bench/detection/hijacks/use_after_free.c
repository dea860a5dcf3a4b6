/* An object that was given back is used once more, with what lies there now. */
#include "program.h"

struct node {
  void (*visit)(struct node *);
  unsigned value[6];
};

ENTRY void visit_plain(struct node *node) { total += node->value[0]; }
ENTRY void visit_twice(struct node *node) { total += 2 * node->value[0]; }

struct node *node;
unsigned char *note;

/* steps: 'n' a node, 'v' visits it, 'd' drops it, 't' a note of 32 bytes */
ENTRY void special(const unsigned char *data, unsigned size) {
  for (unsigned i = 0; i < size; i++) {
    switch (data[i]) {
    case 'n':
      node = (struct node *)malloc(sizeof *node);
      node->visit = total & 1 ? visit_plain : visit_twice;
      node->value[0] = i;
      break;
    case 'v':
      if (node)
        node->visit(node);
      break;
    case 'd':
      free(node);
      if (i + 1 < size && data[i + 1] == '.')
        node = NULL;
      break;
    case 't':
      note = (unsigned char *)malloc(sizeof *node);
      if (i + sizeof *node < size)
        memcpy(note, data + i + 1, sizeof *node);
      i += sizeof *node;
    }
  }
}

ENTRY void finish(void) {}
