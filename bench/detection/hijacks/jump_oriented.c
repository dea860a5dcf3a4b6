/* A function's pointer in an object: jumps from table entry to table entry, and no return is abused. */
#include "gadgets.h"
#include "program.h"

struct job {
  void (*run)(struct job *);
  uintptr_t data[31];
};

ENTRY void run_once(struct job *job) { total += (unsigned)job->data[0] & 7; }
ENTRY void run_again(struct job *job) { total += (unsigned)job->data[1] & 7; }

ENTRY void special(const unsigned char *data, unsigned size) {
  struct job *job = (struct job *)calloc(1, sizeof *job);
  job->run = size & 1 ? run_once : run_again;
  /* the first bytes of long records are meant to be a type, and overwrite the pointer */
  memcpy(size > 100 ? (void *)job : (void *)job->data, data, size < 248 ? size : 248);
  job->run(job);
}

ENTRY void finish(void) {}
