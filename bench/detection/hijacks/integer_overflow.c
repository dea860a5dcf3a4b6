/* The size of a table is computed in 16 bits. */
#include "program.h"

struct view {
  void (*draw)(unsigned char *, unsigned);
};

ENTRY void draw_rows(unsigned char *cells, unsigned count) { total += cells[0] * count; }
ENTRY void draw_columns(unsigned char *cells, unsigned count) { total += cells[count - 1]; }

ENTRY void special(const unsigned char *data, unsigned size) {
  if (size < 6)
    return;
  uint16_t bytes = (uint16_t)(word(data) * word(data + 2));
  unsigned char *cells = (unsigned char *)malloc(bytes < 24 ? 24 : bytes);
  struct view *view = (struct view *)malloc(sizeof *view);
  view->draw = data[4] & 1 ? draw_rows : draw_columns;
  FORGET(cells);
  FORGET(view);
  unsigned wanted = word(data) * word(data + 2);
  memcpy(cells, data + 4, wanted < size - 4 ? wanted : size - 4);
  view->draw(cells, bytes ? bytes : 1);
}

ENTRY void finish(void) {}
