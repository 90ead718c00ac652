/*
 * remuxd_plugin.h: format modules in C.
 *
 * A module is a shared library that exports two symbols: remuxd_module_preflight, which REMUXD_PREFLIGHT defines, and
 * remuxd_module_format, a remuxd_format that describes the format and creates remuxers. README.md in the parent directory
 * explains how the host uses them; examples/c/adts.c is a complete module.
 *
 * Since ABI 1.2. C99, and C++ from C++11 on.
 *
 * Memory: pointers that the host passes are valid for the call. Pointers that a module passes to the host need to be valid for
 * that call only: the host copies the bytes, except those inside the current tag's payload, which it shares. Strings are
 * UTF-8 and end in 0. Everything that a remuxd_format points to must live as long as the library.
 *
 * Threads: any thread, one call at a time for each remuxer. A call must not block, perform IO, or read a clock.
 *
 * Versions: structs begin with their size in bytes and grow at the end. Before reading a field of a newer version, compare
 * struct_size; set struct_size to sizeof. Fields named reserved are 0 unless their comment says otherwise. Ignore kinds,
 * packets and codecs that you do not know.
 *
 * A crash in C ends the host, unless the module has isolation = "process". No C++ exception may leave a function of the
 * module.
 */
#ifndef REMUXD_PLUGIN_H
#define REMUXD_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define REMUXD_ABI_MAJOR 1
#define REMUXD_ABI_MINOR 5

/* A codec: its FourCC, big-endian. */
#define REMUXD_FOURCC(a, b, c, d) \
    ((uint32_t)(a) << 24 | (uint32_t)(b) << 16 | (uint32_t)(c) << 8 | (uint32_t)(d))
#define REMUXD_H264 REMUXD_FOURCC('a', 'v', 'c', '1')
#define REMUXD_HEVC REMUXD_FOURCC('h', 'v', 'c', '1')
#define REMUXD_AV1 REMUXD_FOURCC('a', 'v', '0', '1')
#define REMUXD_VP9 REMUXD_FOURCC('v', 'p', '0', '9')
#define REMUXD_AAC REMUXD_FOURCC('m', 'p', '4', 'a')
#define REMUXD_MP3 REMUXD_FOURCC('.', 'm', 'p', '3')
#define REMUXD_OPUS REMUXD_FOURCC('O', 'p', 'u', 's')

/* remuxd_tag.kind */
enum { REMUXD_AUDIO = 8, REMUXD_VIDEO = 9, REMUXD_SCRIPT = 18 };

/* remuxd_tag.packet. A coded frame may be empty. */
enum {
    REMUXD_PACKET_OTHER = 0,
    REMUXD_PACKET_SEQUENCE_HEADER = 1,
    REMUXD_PACKET_CODED_FRAME = 2,
    REMUXD_PACKET_SEQUENCE_END = 3,
    REMUXD_PACKET_METADATA = 4
};

/*
 * remuxd_tag.flags. REMUXD_TAG_DISCONTINUITY: the host adjusted the timeline just before; since 1.5 also: viewers have blocks of a
 * remuxer before, whose state this one did not get, such as after a fault.
 */
enum { REMUXD_TAG_KEYFRAME = 1, REMUXD_TAG_DISCONTINUITY = 2 };

/*
 * remuxd_tag.reserved_u8, since 1.4: the tracks that the stream has at this tag. Without REMUXD_TRACKS_KNOWN, from an older
 * host, ignore the other bits and treat each track that the module has seen as present. A track is present from its first
 * frame on, video from its first keyframe. It becomes absent again when the other track continues without it for some time
 * (currently 10 s), or when another publisher of the stream does not begin it soon (currently within 1 s). While video is
 * absent viewers join at audio frames: mark these with REMUXD_BLOCK_JOIN. A host before 1.5 reports a track from its sequence
 * header on, and never reports that audio has become absent.
 */
enum { REMUXD_TRACKS_KNOWN = 1, REMUXD_TRACKS_AUDIO = 2, REMUXD_TRACKS_VIDEO = 4 };

/*
 * remuxd_block.flags: at most one of them. Since 1.5 a remuxer's second REMUXD_BLOCK_PREAMBLE ends the responses that began with
 * an earlier one; the next request starts another remuxer. The first one of a successor does not. A host before 1.5 keeps
 * the responses, and viewers that join later get the newest preamble.
 */
enum { REMUXD_BLOCK_PREAMBLE = 1, REMUXD_BLOCK_CONFIG = 2, REMUXD_BLOCK_JOIN = 4 };

/* remuxd_format.transport */
enum { REMUXD_HTTP = 0, REMUXD_WEBSOCKET = 1 };

/*
 * remuxd_format.reserved[0], since 1.4: further transports for the same remuxers, as in
 * .reserved = {REMUXD_FURTHER(REMUXD_WEBSOCKET)}. Older hosts use remuxd_format.transport only.
 */
#define REMUXD_FURTHER(transport) (1 << (transport))

/*
 * remuxd_option.reserved[0], since 1.5, with REMUXD_OPTION_INTEGER: the value is the number of the track whose tags the remuxer
 * gets (enhanced RTMP multitrack). A host before 1.5 feeds track 0.
 */
enum { REMUXD_OPTION_SELECTS_TRACK = 1 };

/* remuxd_option.kind */
enum { REMUXD_OPTION_FLAG = 0, REMUXD_OPTION_INTEGER = 1, REMUXD_OPTION_CHOICE = 2, REMUXD_OPTION_TEXT = 3 };

/* Levels of remuxd_logger.log. */
enum { REMUXD_LOG_ERROR = 1, REMUXD_LOG_WARN = 2, REMUXD_LOG_INFO = 3, REMUXD_LOG_DEBUG = 4 };

/*
 * Results of functions. REMUXD_UNSUPPORTED, since 1.3: the stream has no track that the format can carry. Waiting viewers get HTTP
 * 415, and the host does not count a fault. Older hosts treat it as REMUXD_FAILED.
 */
enum { REMUXD_OK = 0, REMUXD_FAILED = 1, REMUXD_UNSUPPORTED = 2 };

/* Borrowed bytes. */
typedef struct remuxd_bytes {
    const uint8_t *ptr;
    size_t len;
} remuxd_bytes;

/* The value of an option, written as in the config without quotes. */
typedef struct remuxd_value {
    const char *name;
    const char *value;
} remuxd_value;

/* The options and stream of a new remuxer. */
typedef struct remuxd_setup {
    uint32_t struct_size;
    uint32_t video; /* the stream's codecs, 0 if none was seen */
    uint32_t audio;
    uint32_t age_ms; /* time that the stream has been live */
    const remuxd_value *options; /* one for each option that the format declares, in that order */
    size_t option_count;
    remuxd_bytes state; /* the result of the predecessor's state(); empty for a fresh start */
} remuxd_setup;

/* One timestamped unit of a stream. Times are in milliseconds. */
typedef struct remuxd_tag {
    uint32_t struct_size;
    uint8_t kind;
    uint8_t packet;
    uint8_t flags;
    uint8_t reserved_u8; /* REMUXD_TRACKS_KNOWN and others, since 1.4 */
    uint32_t codec;
    uint32_t reserved;
    int64_t dts;
    int64_t composition_offset; /* presentation time minus decoding time */
    remuxd_bytes payload; /* the body of the FLV tag */
    remuxd_bytes data; /* the codec's data in the payload: NAL units with lengths, a raw frame, a configuration record */
} remuxd_tag;

/* One piece of output. */
typedef struct remuxd_block {
    uint32_t struct_size;
    uint8_t flags;
    uint8_t track; /* 0 to 7: the configuration that a REMUXD_BLOCK_CONFIG block replaces */
    uint8_t reserved[2];
    int64_t dts; /* of the first access unit inside */
    const remuxd_bytes *parts; /* the bytes, in order */
    size_t part_count;
} remuxd_block;

/* Takes the blocks of one call. */
typedef struct remuxd_sink {
    uint32_t struct_size;
    uint32_t reserved;
    void *context; /* the first argument of block */
    /* REMUXD_FAILED: the call's byte budget is used up. Return REMUXD_FAILED at once. */
    int (*block)(void *context, const remuxd_block *block);
} remuxd_sink;

/* The reason that a call failed: one line for the operator's log. */
typedef struct remuxd_error {
    uint32_t struct_size;
    uint32_t reserved;
    char message[248]; /* ends in 0 */
} remuxd_error;

/* The host's log, callable on any thread while the library is mapped. */
typedef struct remuxd_logger {
    uint32_t struct_size;
    uint32_t reserved;
    const void *context; /* the first argument of log */
    void (*log)(const void *context, int level, const char *line);
} remuxd_logger;

/* One option of a format. */
typedef struct remuxd_option {
    const char *name; /* snake_case */
    const char *default_value; /* written as in the config without quotes */
    const char *doc; /* one sentence for operators */
    const char *const *choices; /* the words of REMUXD_OPTION_CHOICE; ends in NULL */
    int64_t min; /* the inclusive bounds of REMUXD_OPTION_INTEGER */
    int64_t max;
    uint8_t kind;
    uint8_t variant; /* 1: a viewer may set it in the URL */
    uint8_t reserved[6]; /* the first: REMUXD_OPTION_SELECTS_TRACK, since 1.5 */
} remuxd_option;

/* A format and its functions, which must not be NULL unless their comment allows it. */
typedef struct remuxd_format {
    uint32_t struct_size;
    uint8_t transport;
    uint8_t reserved[3]; /* the first: REMUXD_FURTHER, since 1.4 */
    const char *name; /* a-z, 0-9 and -: the name in modules.load */
    const char *version;
    const char *content_type;
    const char *const *extensions; /* mount extensions without the dot; ends in NULL */
    const uint32_t *video_codecs; /* ends in 0; NULL when it drops video */
    const uint32_t *audio_codecs; /* ends in 0; NULL when it drops audio */
    const remuxd_option *options;
    size_t option_count;
    /* May be NULL. Called once, before any other function; the logger may be copied. */
    void (*set_logger)(const remuxd_logger *logger);
    /* Creates a remuxer. Returns NULL on failure, with the reason in error. */
    void *(*remuxer)(const remuxd_setup *setup, remuxd_error *error);
    /* Consumes a tag. After REMUXD_FAILED or REMUXD_UNSUPPORTED the host only calls free(). */
    int (*tag)(void *remuxer, const remuxd_tag *tag, const remuxd_sink *sink, remuxd_error *error);
    /* May be NULL. Writes what is still buffered: the stream ends, or a successor takes over. */
    int (*finish)(void *remuxer, const remuxd_sink *sink, remuxd_error *error);
    /* May be NULL. Writes the state for a successor, at most room bytes, and returns its length. */
    size_t (*state)(void *remuxer, uint8_t *into, size_t room);
    /* Frees a remuxer, including one that failed. */
    void (*free)(void *remuxer);
} remuxd_format;

/* The data that the host reads first. */
typedef struct remuxd_preflight {
    char magic[8];
    uint32_t struct_size;
    uint16_t abi_major;
    uint16_t abi_minor;
    uint8_t panic_abort;
    uint8_t reserved[7];
    const char *compiler;
} remuxd_preflight;

#if defined(__GNUC__)
#define REMUXD_EXPORT __attribute__((visibility("default")))
#else
#define REMUXD_EXPORT
#endif

#if defined(__clang__)
#define REMUXD_COMPILER "clang " __clang_version__
#elif defined(__GNUC__)
#define REMUXD_COMPILER "gcc " __VERSION__
#else
#define REMUXD_COMPILER "a C compiler"
#endif

/* Use once in a module, at file scope. */
#define REMUXD_PREFLIGHT \
    const remuxd_preflight remuxd_module_preflight = { \
        {'r', 'e', 'm', 'u', 'x', 'd', '\xff', '\x01'}, sizeof(remuxd_preflight), REMUXD_ABI_MAJOR, \
        REMUXD_ABI_MINOR, 0, {0}, REMUXD_COMPILER \
    }

/* Defined by the module. */
extern REMUXD_EXPORT const remuxd_format remuxd_module_format;
extern REMUXD_EXPORT const remuxd_preflight remuxd_module_preflight;

/* Fails to compile where a compiler lays out the structs differently. */
#define REMUXD_ASSERT(name, holds) typedef char remuxd_assert_##name[(holds) ? 1 : -1]
#if UINTPTR_MAX == UINT64_MAX
REMUXD_ASSERT(bytes, sizeof(remuxd_bytes) == 16 && offsetof(remuxd_bytes, len) == 8);
REMUXD_ASSERT(value, sizeof(remuxd_value) == 16 && offsetof(remuxd_value, value) == 8);
REMUXD_ASSERT(setup, sizeof(remuxd_setup) == 48 && offsetof(remuxd_setup, options) == 16);
REMUXD_ASSERT(setup_state, offsetof(remuxd_setup, state) == 32);
REMUXD_ASSERT(tag, sizeof(remuxd_tag) == 64 && offsetof(remuxd_tag, codec) == 8);
REMUXD_ASSERT(tag_bytes, offsetof(remuxd_tag, payload) == 32 && offsetof(remuxd_tag, data) == 48);
REMUXD_ASSERT(block, sizeof(remuxd_block) == 32 && offsetof(remuxd_block, parts) == 16);
REMUXD_ASSERT(sink, sizeof(remuxd_sink) == 24 && offsetof(remuxd_sink, block) == 16);
REMUXD_ASSERT(error, sizeof(remuxd_error) == 256 && offsetof(remuxd_error, message) == 8);
REMUXD_ASSERT(logger, sizeof(remuxd_logger) == 24 && offsetof(remuxd_logger, log) == 16);
REMUXD_ASSERT(option, sizeof(remuxd_option) == 56 && offsetof(remuxd_option, kind) == 48);
REMUXD_ASSERT(format, sizeof(remuxd_format) == 120 && offsetof(remuxd_format, name) == 8);
REMUXD_ASSERT(format_functions, offsetof(remuxd_format, set_logger) == 72 && offsetof(remuxd_format, free) == 112);
REMUXD_ASSERT(preflight, sizeof(remuxd_preflight) == 32 && offsetof(remuxd_preflight, compiler) == 24);
#endif

#ifdef __cplusplus
}
#endif

#endif
