// An exception is thrown where the return address was overwritten: another handler gets it.
#include "program.h"

ENTRY void step(void) {
  if (total == 0xffffffff)
    throw 1;
}

// never called: its handler is for the people who maintain the program
ENTRY void restore(void) {
  try {
    step();
    __asm__ volatile(".globl in_restore\nin_restore:");
    step();
  } catch (int) {
    maintenance();
  }
}

ENTRY void copy_name(const unsigned char *data, unsigned size) {
  unsigned char name[64];
  memcpy(name, data, size);
  if (name[0] == '!')
    throw 7;
  total += name[1];
}

ENTRY void special(const unsigned char *data, unsigned size) {
  try {
    copy_name(data, size);
  } catch (int number) {
    total += (unsigned)number;
  }
}

ENTRY void finish(void) {}
