/* Crashes when it is unmapped. */
#include <stdlib.h>

__attribute__((destructor)) static void crash(void) {
    abort();
}
