/* The layout of the preflight data, as a C author sees it. */
#include <stdint.h>

struct preflight {
    char magic[8];
    uint32_t struct_size;
    uint16_t abi_major;
    uint16_t abi_minor;
    uint8_t panic_abort;
    uint8_t reserved[7];
    const char *rustc;
};

#define PREFLIGHT(major) \
    const struct preflight remuxd_module_preflight = { \
        "remuxd\xff\x01", sizeof(struct preflight), major, 0, 0, {0}, "no rustc" \
    }
