/* A buffer on the heap is followed by an object with a pointer to a function. */
#include "program.h"

struct sink {
  void (*put)(unsigned char);
  unsigned count;
};

ENTRY void put_sum(unsigned char value) { total += value; }
ENTRY void put_odd(unsigned char value) { total += value & 1; }

ENTRY void special(const unsigned char *data, unsigned size) {
  unsigned char *text = (unsigned char *)malloc(48);
  struct sink *sink = (struct sink *)malloc(sizeof *sink);
  sink->put = size & 1 ? put_sum : put_odd;
  sink->count = 0;
  FORGET(text);
  FORGET(sink);
  memcpy(text, data, size);
  for (unsigned i = 0; i < 4; i++)
    sink->put(text[i]);
}

ENTRY void finish(void) {}
