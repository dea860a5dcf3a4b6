/* What is done at the end stands in a list behind a buffer. */
#include "program.h"

ENTRY void close_all(void) { total += 1; }
ENTRY void flush_all(void) { total += 2; }

struct {
  unsigned char path[40];
  void (*at_end[3])(void);
} state = {{0}, {close_all, flush_all, NULL}};

ENTRY void special(const unsigned char *data, unsigned size) { memcpy(state.path, data, size); }

ENTRY void finish(void) {
  for (unsigned i = 0; i < 3 && state.at_end[i]; i++)
    state.at_end[i]();
}
