/* A value is written to an index that nobody checks: the table of library functions can be reached. */
#include "program.h"

uintptr_t slots[32];

ENTRY void special(const unsigned char *data, unsigned size) {
  for (unsigned i = 0; i + 4 + sizeof(uintptr_t) <= size; i += 4 + sizeof(uintptr_t)) {
    int32_t index;
    memcpy(&index, data + i, 4);
    slots[index] = pointer(data + i + 4);
    total += (unsigned)index;
  }
}

ENTRY void finish(void) { puts("end"); }
