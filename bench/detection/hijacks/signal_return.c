/* The same: what the kernel restores when a signal handler returns is forged. */
#include "gadgets.h"
#include "return_address.c"
