/* An index into a table of functions is not checked; behind it lie numbers of the document. */
#include "program.h"

ENTRY void open_part(void) { total += 1; }
ENTRY void close_part(void) { total += 2; }
ENTRY void break_part(void) { total += 3; }

struct {
  void (*actions[3])(void);
  uintptr_t numbers[16];
} table = {{open_part, close_part, break_part}, {0}};

ENTRY void special(const unsigned char *data, unsigned size) {
  unsigned numbers = (size - 1) / sizeof(uintptr_t);
  for (unsigned i = 0; i < numbers && i < 16; i++)
    table.numbers[i] = pointer(data + 1 + i * sizeof(uintptr_t));
  table.actions[data[0]]();
}

ENTRY void finish(void) {}
