/* Ends the process when it is mapped, as if all were well. */
#include <unistd.h>

__attribute__((constructor)) static void end(void) {
    _exit(0);
}
