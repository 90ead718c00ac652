// A module in C++ that passes keyframes on.
#include <remuxd_plugin.h>

namespace {

struct Remuxer {
    int unused;
};

void *make(const remuxd_setup *, remuxd_error *)
{
    return new Remuxer();
}

int tag(void *, const remuxd_tag *tag, const remuxd_sink *sink, remuxd_error *)
{
    if (!(tag->flags & REMUXD_TAG_KEYFRAME))
        return REMUXD_OK;
    remuxd_block block = {};
    block.struct_size = sizeof block;
    block.flags = REMUXD_BLOCK_JOIN;
    block.dts = tag->dts;
    block.parts = &tag->payload;
    block.part_count = 1;
    return sink->block(sink->context, &block);
}

void free_remuxer(void *remuxer)
{
    delete static_cast<Remuxer *>(remuxer);
}

const char *const extensions[] = {"cpp", nullptr};
const uint32_t video[] = {REMUXD_H264, 0};

} // namespace

REMUXD_PREFLIGHT;

const remuxd_format remuxd_module_format = {
    sizeof(remuxd_format), REMUXD_HTTP, {}, "cpp", "1.0.0", "application/octet-stream", extensions, video, nullptr,
    nullptr, 0, nullptr, make, tag, nullptr, nullptr, free_remuxer,
};
