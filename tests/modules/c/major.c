/* Made for a major version that does not exist yet. */
#include "preflight.h"

PREFLIGHT(2);
