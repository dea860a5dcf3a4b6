/* What a signal's handler calls stands behind a buffer. */
#include <signal.h>

#include "program.h"

ENTRY void on_tick(void) { total += 1; }

struct {
  unsigned char name[24];
  void (*tick)(void);
} state = {{0}, on_tick};

ENTRY void handle(int number) {
  (void)number;
  state.tick();
}

ENTRY void special(const unsigned char *data, unsigned size) {
  signal(SIGUSR1, handle);
  memcpy(state.name, data, size);
  if (size & 1)
    raise(SIGUSR1);
}

ENTRY void finish(void) { raise(SIGWINCH); }
