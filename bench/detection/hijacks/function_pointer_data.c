/* A pointer to a function stands behind a buffer among the program's data. */
#include "program.h"

ENTRY void end_short(void) { total += 1; }
ENTRY void end_long(void) { total += 2; }

struct {
  unsigned char title[32];
  void (*end)(void);
} state = {{0}, end_short};

ENTRY void special(const unsigned char *data, unsigned size) {
  if (size > 16)
    state.end = end_long;
  memcpy(state.title, data, size);
}

ENTRY void finish(void) { state.end(); }
