/* The module of stateful.c, whose initialiser does to the process what CHANGE says. */
#define _GNU_SOURCE
#include "stateful.c"

#include <fcntl.h>
#include <fenv.h>
#include <locale.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static void ignore(int signal)
{
    (void)signal;
}

static void block(int signal)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, signal);
    sigprocmask(SIG_BLOCK, &set, NULL);
}

static void limit(int resource, rlim_t value)
{
    struct rlimit new = {value, value};
    setrlimit(resource, &new);
}

/* Leaves a process that lives on, and holds nothing of its parent's. */
static void leave_process(int twice)
{
    if (fork() == 0) {
        if (twice && fork() != 0)
            _exit(0);
        for (int file = 0; file < 64; file++)
            close(file);
        sleep(600);
        _exit(0);
    }
}

__attribute__((constructor)) static void change(void)
{
    (void)ignore;
    (void)block;
    (void)limit;
    (void)leave_process;
    CHANGE;
}
