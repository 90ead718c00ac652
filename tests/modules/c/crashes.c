/* Crashes when it is mapped. */
#include <stddef.h>

__attribute__((constructor)) static void crash(void) {
    *(volatile int *)NULL = 1;
}
