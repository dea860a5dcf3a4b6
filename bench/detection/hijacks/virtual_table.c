/* Objects have a pointer to a table of functions, behind a buffer. */
#include "program.h"

struct shape;
struct table {
  unsigned (*area)(struct shape *);
  unsigned (*border)(struct shape *);
};
struct shape {
  unsigned char name[24];
  const struct table *table;
  unsigned width, height;
};

ENTRY unsigned area_of_box(struct shape *shape) { return shape->width * shape->height; }
ENTRY unsigned border_of_box(struct shape *shape) { return 2 * (shape->width + shape->height); }
ENTRY unsigned area_of_line(struct shape *shape) { return shape->width; }
ENTRY unsigned border_of_line(struct shape *shape) { return 2 * shape->width; }

const struct table box = {area_of_box, border_of_box}, line = {area_of_line, border_of_line};

ENTRY void special(const unsigned char *data, unsigned size) {
  struct shape *shape = (struct shape *)calloc(1, sizeof *shape + 64);
  shape->table = size & 1 ? &box : &line;
  shape->width = data[0];
  shape->height = data[1];
  memcpy(shape->name, data, size);
  total += shape->table->area(shape) + shape->table->border(shape);
  free(shape);
}

ENTRY void finish(void) {}
