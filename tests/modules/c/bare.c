/* Says that it is a module, and is not. */
#include "preflight.h"

PREFLIGHT(1);
