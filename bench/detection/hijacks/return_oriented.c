/* The same: a chain of ends of functions makes a system call. */
#include "gadgets.h"
#include "return_address.c"
