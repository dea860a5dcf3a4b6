/* The same: the stack is moved to the object, where a chain of returns lies. */
#include "jump_oriented.c"
