/* Where an error goes to stands behind a buffer. */
#include "program.h"

struct {
  unsigned char title[32];
  void *error[5];
} state;

ENTRY void copy_title(const unsigned char *data, unsigned size) {
  memcpy(state.title, data, size);
  if (data[0] == '!')
    __builtin_longjmp(state.error, 1);
  total += state.title[1];
}

ENTRY void special(const unsigned char *data, unsigned size) {
  if (__builtin_setjmp(state.error) == 0)
    copy_title(data, size);
  else
    total += 1000;
}

ENTRY void finish(void) {}
