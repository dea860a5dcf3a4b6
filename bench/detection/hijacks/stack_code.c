/* The same, with a stack that may be executed: code in the document is run there. */
#include "gadgets.h"
#include "return_address.c"
