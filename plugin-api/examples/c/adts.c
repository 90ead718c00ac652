/*
 * A format module in C: AAC frames, each behind an ADTS header (ISO/IEC 13818-7, 6.2). A mount with the extension `adts`
 * then serves a stream for `ffplay -f aac URL`. Video is dropped.
 *
 *     cc -std=c99 -shared -fPIC -O2 -I../../include -o libadts.so adts.c
 */
#include <remuxd_plugin.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEADER_SIZE 7
/* The length field has 13 bits and counts the header. */
#define MAX_FRAME (0x1fff - HEADER_SIZE)

typedef struct {
    int mpeg2;
    int ready; /* a configuration has arrived */
    unsigned profile, frequency, channels;
} adts;

static int fail(remuxd_error *error, const char *message)
{
    snprintf(error->message, sizeof error->message, "%s", message);
    return REMUXD_FAILED;
}

/* The stream is valid, but ADTS cannot represent it. */
static int unsupported(remuxd_error *error, const char *message)
{
    fail(error, message);
    return REMUXD_UNSUPPORTED;
}

static const char *option(const remuxd_setup *setup, const char *name)
{
    for (size_t i = 0; i < setup->option_count; i++)
        if (strcmp(setup->options[i].name, name) == 0)
            return setup->options[i].value;
    return "";
}

static void *make(const remuxd_setup *setup, remuxd_error *error)
{
    adts *self = calloc(1, sizeof *self);
    if (!self) {
        fail(error, "no memory");
        return NULL;
    }
    self->mpeg2 = strcmp(option(setup, "mpeg2"), "true") == 0;
    return self;
}

/* Reads `count` bits of `bytes` at `*at`, with zeros past the end. */
static unsigned bits(remuxd_bytes bytes, size_t *at, unsigned count)
{
    unsigned value = 0;
    for (; count > 0; count--, ++*at) {
        unsigned byte = *at / 8 < bytes.len ? bytes.ptr[*at / 8] : 0;
        value = value << 1 | (byte >> (7 - *at % 8) & 1);
    }
    return value;
}

/* Reads an AudioSpecificConfig (ISO/IEC 14496-3, 1.6.2.1) as far as ADTS can represent it. */
static int configure(adts *self, remuxd_bytes config, remuxd_error *error)
{
    enum { SBR = 5, PS = 29 };
    size_t at = 0;
    unsigned type = bits(config, &at, 5);
    unsigned frequency = bits(config, &at, 4);
    unsigned channels = bits(config, &at, 4);
    if (type == SBR || type == PS) {
        /* Decoders detect the extension; the header describes what it extends. */
        if (bits(config, &at, 4) == 15)
            return unsupported(error, "a sampling rate that ADTS has no number for");
        type = bits(config, &at, 5);
    }
    if (at > config.len * 8)
        return fail(error, "AudioSpecificConfig is cut off");
    if (type < 1 || type > 4)
        return unsupported(error, "an AAC object type that ADTS has no number for");
    if (frequency > 12 || channels < 1 || channels > 7)
        return unsupported(error, "a sampling rate or channel layout that ADTS has no number for");
    self->profile = type - 1;
    self->frequency = frequency;
    self->channels = channels;
    self->ready = 1;
    return REMUXD_OK;
}

static int frame(const adts *self, const remuxd_tag *tag, const remuxd_sink *sink, remuxd_error *error)
{
    size_t size = tag->data.len + HEADER_SIZE;
    if (tag->data.len == 0)
        return REMUXD_OK;
    if (tag->data.len > MAX_FRAME)
        return fail(error, "an AAC frame that is too large for ADTS");
    const uint8_t header[HEADER_SIZE] = {
        0xff,
        (uint8_t)(0xf1 | self->mpeg2 << 3),
        (uint8_t)(self->profile << 6 | self->frequency << 2 | self->channels >> 2),
        (uint8_t)((self->channels & 3) << 6 | size >> 11),
        (uint8_t)(size >> 3),
        (uint8_t)((size & 7) << 5 | 0x1f),
        0xfc,
    };
    /* The frame lies in the tag's payload: the host shares it instead of copying it. */
    const remuxd_bytes parts[] = {{header, sizeof header}, tag->data};
    const remuxd_block block = {
        .struct_size = sizeof block,
        .flags = REMUXD_BLOCK_JOIN, /* a frame decodes alone */
        .dts = tag->dts,
        .parts = parts,
        .part_count = 2,
    };
    return sink->block(sink->context, &block);
}

static int on_tag(void *remuxer, const remuxd_tag *tag, const remuxd_sink *sink, remuxd_error *error)
{
    adts *self = remuxer;
    if (tag->codec != REMUXD_AAC)
        return REMUXD_OK;
    if (tag->packet == REMUXD_PACKET_SEQUENCE_HEADER)
        return configure(self, tag->data, error);
    if (tag->packet == REMUXD_PACKET_CODED_FRAME && self->ready)
        return frame(self, tag, sink, error);
    return REMUXD_OK;
}

REMUXD_PREFLIGHT;

static const char *const EXTENSIONS[] = {"adts", NULL};
static const uint32_t AUDIO[] = {REMUXD_AAC, 0};
static const remuxd_option OPTIONS[] = {
    {
        .name = "mpeg2",
        .default_value = "false",
        .doc = "Say MPEG-2 in the header instead of MPEG-4, for very old players.",
        .kind = REMUXD_OPTION_FLAG,
        .variant = 1,
    },
};

const remuxd_format remuxd_module_format = {
    .struct_size = sizeof remuxd_module_format,
    .transport = REMUXD_HTTP,
    .name = "adts",
    .version = "1.0.0",
    .content_type = "audio/aac",
    .extensions = EXTENSIONS,
    .audio_codecs = AUDIO,
    .options = OPTIONS,
    .option_count = sizeof OPTIONS / sizeof OPTIONS[0],
    .remuxer = make,
    .tag = on_tag,
    .free = free,
};
