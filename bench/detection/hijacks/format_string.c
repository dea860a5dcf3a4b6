/* A line of the document is taken for a format. */
#include "program.h"

ENTRY void end_plain(void) { total += 1; }
ENTRY void end_loud(void) { total += 2; }

void (*end)(void) = end_plain;

ENTRY void special(const unsigned char *data, unsigned size) {
  char line[256] __attribute__((aligned(16))), out[64];
  if (size > sizeof line - 8)
    size = sizeof line - 8;
  memset(line, 0, sizeof line);
  memcpy(line, data, size);
  if (data[0] == 'l')
    end = end_loud;
  total += (unsigned)snprintf(out, sizeof out, line);
}

ENTRY void finish(void) { end(); }
