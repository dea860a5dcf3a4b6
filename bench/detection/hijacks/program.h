/* What the programs have in common: they read a document of records, and each treats one kind of record of its
   own, special(), in a way that a document can abuse. A document is "DOC1", then records: a letter, the length
   of what follows (16 bits, little-endian), and that. */
#ifndef PROGRAM_H
#define PROGRAM_H

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef __cplusplus
#define ENTRY extern "C" __attribute__((noinline, used))
#else
#define ENTRY __attribute__((noinline, used))
#endif

/* at a fixed place, as these programs are not PIE (but for one) */
unsigned char document[1 << 16];
unsigned total;

/* what programs are run for maintenance; no record asks for it */
char *const helper[] = {(char *)"/bin/true", NULL};

ENTRY void maintenance(void) {
  execve(helper[0], helper, NULL);
  _exit(9);
}

/* program by program */
ENTRY void special(const unsigned char *data, unsigned size);
ENTRY void finish(void);

/* the compiler is not to know what a pointer points to */
#define FORGET(pointer) __asm__ volatile("" : "+r"(pointer) : : "memory")

static unsigned word(const unsigned char *at) { return at[0] | at[1] << 8; }

static uintptr_t pointer(const unsigned char *at) {
  uintptr_t value;
  memcpy(&value, at, sizeof value);
  return value;
}

/* records of all programs */

ENTRY void count_words(const unsigned char *data, unsigned size) {
  unsigned words = 0, inside = 0;
  for (unsigned i = 0; i < size; i++) {
    int letter = data[i] > ' ';
    words += letter && !inside;
    inside = letter;
  }
  total += words;
}

ENTRY void add_numbers(const unsigned char *data, unsigned size) {
  for (unsigned i = 0; i + 1 < size; i += 2) {
    unsigned value = word(data + i);
    total += value & 1 ? value : value / 3;
  }
}

ENTRY void check(const unsigned char *data, unsigned size) {
  uint32_t crc = ~0u;
  for (unsigned i = 0; i < size; i++) {
    crc ^= data[i];
    for (int bit = 0; bit < 8; bit++)
      crc = crc & 1 ? crc >> 1 ^ 0xedb88320u : crc >> 1;
  }
  total += ~crc & 0xff;
}

static int smaller(const void *one, const void *other) {
  return *(const unsigned char *)one - *(const unsigned char *)other;
}

ENTRY void sort(const unsigned char *data, unsigned size) {
  unsigned char sorted[64];
  if (size > sizeof sorted)
    size = sizeof sorted;
  memcpy(sorted, data, size);
  qsort(sorted, size, 1, smaller);
  for (unsigned i = 0; i < size; i++)
    total += sorted[i] * i;
}

ENTRY void read_records(unsigned size) {
  unsigned at = 4;
  while (at + 3 <= size) {
    unsigned length = word(document + at + 1);
    const unsigned char *data = document + at + 3;
    if (at + 3 + length > size)
      break;
    switch (document[at]) {
    case 'T': count_words(data, length); break;
    case 'N': add_numbers(data, length); break;
    case 'C': check(data, length); break;
    case 'S': sort(data, length); break;
    case 'X': special(data, length); break;
    default: total++;
    }
    at += 3 + length;
  }
}

int main(int argc, char **argv) {
  int file = argc == 2 ? open(argv[1], O_RDONLY) : -1;
  ssize_t size = file < 0 ? -1 : read(file, document, sizeof document / 2);
  if (size < 4 || memcmp(document, "DOC1", 4) != 0) {
    puts("no document");
    return 1;
  }
  read_records((unsigned)size);
  finish();
  printf("total %u\n", total);
  return 0;
}

#endif
