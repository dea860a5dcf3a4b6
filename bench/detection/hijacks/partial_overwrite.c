/* Only the lowest byte of a pointer is reached; the program lies where the system puts it. */
#include "program.h"

struct mark {
  unsigned char text[24];
  void (*draw)(void);
};

/* these lie in one stretch of 256 bytes */
__attribute__((noinline, used, aligned(256))) void draw_mark(void) { total += 1; }
__attribute__((noinline, used)) void draw_helper(void) { maintenance(); }

ENTRY void special(const unsigned char *data, unsigned size) {
  struct mark mark;
  mark.draw = draw_mark;
  memcpy(mark.text, data, size);
  mark.draw();
}

ENTRY void finish(void) {}
