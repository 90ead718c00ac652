/* A module in C whose table is nowhere. */
#include "preflight.h"

PREFLIGHT(1);
__asm__(".globl remuxd_module_format\n.set remuxd_module_format, 0");
