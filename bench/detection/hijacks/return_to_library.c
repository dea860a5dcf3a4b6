/* The same, with ends of functions by which a call of the C library can be made. */
#include "gadgets.h"
#include "return_address.c"
