/* A module in C that uses all that the interface has: a preamble, a state, the log, errors, and parts of its own. */
#include <remuxd_plugin.h>

#include <stdlib.h>
#include <string.h>

typedef struct {
    uint8_t count; /* tags so far, its predecessor's too */
    uint8_t started;
} stateful;

static remuxd_logger logger;

static void set_logger(const remuxd_logger *lent)
{
    logger = *lent;
}

static void *make(const remuxd_setup *setup, remuxd_error *error)
{
    if (setup->option_count != 1 || strcmp(setup->options[0].name, "fail") != 0) {
        strcpy(error->message, "not the options that it declares");
        return NULL;
    }
    if (strcmp(setup->options[0].value, "new") == 0) {
        strcpy(error->message, "told to,\nin new");
        return NULL;
    }
    if (strcmp(setup->options[0].value, "silently") == 0)
        return NULL;
    stateful *self = calloc(1, sizeof *self);
    if (setup->state.len == 1)
        self->count = setup->state.ptr[0];
    return self;
}

static int tag(void *remuxer, const remuxd_tag *tag, const remuxd_sink *sink, remuxd_error *error)
{
    stateful *self = remuxer;
    remuxd_bytes name = {(const uint8_t *)"HEAD", 4};
    remuxd_block preamble = {sizeof preamble, REMUXD_BLOCK_PREAMBLE, 0, {0}, tag->dts, &name, 1};
    uint8_t number = ++self->count;
    remuxd_bytes parts[4] = {{&number, 1}, tag->payload, tag->data, {&tag->reserved_u8, 1}};
    remuxd_block block = {sizeof block, REMUXD_BLOCK_JOIN, 0, {0}, tag->dts, parts, 4};
    if (!self->started && sink->block(sink->context, &preamble) != REMUXD_OK)
        return REMUXD_FAILED;
    self->started = 1;
    if (tag->payload.len == 13) {
        strcpy(error->message, "bad luck");
        return REMUXD_FAILED;
    }
    if (tag->payload.len == 14) {
        strcpy(error->message, "too long");
        return REMUXD_UNSUPPORTED;
    }
    if (logger.log && (tag->flags & REMUXD_TAG_KEYFRAME))
        logger.log(logger.context, REMUXD_LOG_INFO, "a keyframe");
    return sink->block(sink->context, &block);
}

static int finish(void *remuxer, const remuxd_sink *sink, remuxd_error *error)
{
    stateful *self = remuxer;
    remuxd_bytes end = {(const uint8_t *)"END", 3};
    remuxd_block block = {sizeof block, 0, 0, {0}, 0, &end, 1};
    (void)error;
    return self->started ? sink->block(sink->context, &block) : REMUXD_OK;
}

static size_t state(void *remuxer, uint8_t *into, size_t room)
{
    stateful *self = remuxer;
    if (room > 0)
        into[0] = self->count;
    return 1;
}

REMUXD_PREFLIGHT;

static const char *const extensions[] = {"stateful", NULL};
static const uint32_t video[] = {REMUXD_H264, 0};
static const char *const words[] = {"never", "new", "silently", NULL};
static const remuxd_option options[] = {
    {"fail", "never", "Where to fail.", words, 0, 0, REMUXD_OPTION_CHOICE, 0, {0}},
};

#ifndef NAME
#define NAME "stateful"
#endif
#ifndef FREE
#define FREE free
#endif
#ifndef SIZE
#define SIZE sizeof(remuxd_format)
#endif

const remuxd_format remuxd_module_format = {
    SIZE, REMUXD_HTTP, {REMUXD_FURTHER(REMUXD_WEBSOCKET)}, NAME, "1.0.0", "application/octet-stream", extensions, video, NULL,
    options, 1, set_logger, make, tag, finish, state, FREE,
};
