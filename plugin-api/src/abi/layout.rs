//! The memory layout of all types of the interface. A changed line breaks every module built before, which only a new
//! major version may do.

use std::mem::{align_of, offset_of, size_of};

use super::*;

macro_rules! layout {
    ($type:ty: $size:literal, $align:literal { $($field:ident: $offset:literal,)* }) => {
        assert_eq!((size_of::<$type>(), align_of::<$type>()), ($size, $align), stringify!($type));
        $(assert_eq!(offset_of!($type, $field), $offset, concat!(stringify!($type), ".", stringify!($field)));)*
    };
}

#[test]
#[cfg(target_pointer_width = "64")]
fn keeps_the_layout_since_1_1() {
    layout!(Preflight: 32, 8 {
        magic: 0, struct_size: 8, abi_major: 12, abi_minor: 14, panic_abort: 16, reserved: 17, rustc: 24,
    });
    layout!(ModuleTable: 64, 8 {
        set_logger: 0, info: 8, remuxer: 16, tag: 24, finish: 32, free: 40, state: 48, resume: 56,
    });
    layout!(RawRemuxer: 8, 8 {});
    layout!(RawTag: 96, 8 {
        payload: 0, dts: 32, composition_offset: 40, codec: 48, data_offset: 52, data_len: 56, kind: 60, packet: 61,
        flags: 62, reserved_u8: 63, reserved: 64,
    });
    layout!(RawBlock: 80, 8 { parts: 0, dts: 32, flags: 40, track: 41, reserved_u8: 42, reserved: 48, });
    layout!(RawSink: 32, 8 { context: 0, push: 8, reserved: 16, });
    layout!(RawLogger: 32, 8 { context: 0, log: 8, reserved: 16, });
    layout!(RawSetup<'_>: 64, 8 {
        options: 0, video: 16, audio: 20, age_ms: 24, reserved_u32: 28, reserved: 32,
    });
    layout!(RawValue<'_>: 32, 8 { name: 0, value: 16, });
    layout!(RawInfo: 296, 8 {
        name: 0, version: 32, content_type: 64, extensions: 96, video_codecs: 128, audio_codecs: 160, options: 192,
        transport: 224, reserved_u8: 225, reserved: 232,
    });
    layout!(RawOption: 184, 8 {
        name: 0, default: 32, doc: 64, choices: 96, min: 128, max: 136, kind: 144, variant: 145, reserved_u8: 146,
        reserved: 152,
    });
    layout!(RawFault: 72, 8 { message: 0, kind: 32, reserved_u8: 33, reserved: 40, });
}

#[test]
#[cfg(target_pointer_width = "64")]
fn keeps_the_layout_of_shared_bytes() {
    // The fields are private; abi_stable's own description of them is what the host compares.
    let fields = <SharedBytes as StableAbi>::LAYOUT.get_fields().unwrap();
    let fields: Vec<_> = fields.iter().map(|field| (field.name(), field.layout().size())).collect();
    assert_eq!(fields, [("ptr", 8), ("len", 8), ("owner", 8), ("vtable", 8)]);
    assert_eq!((size_of::<SharedBytes>(), align_of::<SharedBytes>()), (32, 8));
}

/// The same numbers as in `include/remuxd_plugin.h`.
#[test]
#[cfg(target_pointer_width = "64")]
fn keeps_the_layout_of_c_since_1_2() {
    layout!(c::RawBytes: 16, 8 { ptr: 0, len: 8, });
    layout!(c::Value: 16, 8 { name: 0, value: 8, });
    layout!(c::Setup: 48, 8 {
        struct_size: 0, video: 4, audio: 8, age_ms: 12, options: 16, option_count: 24, state: 32,
    });
    layout!(c::Tag: 64, 8 {
        struct_size: 0, kind: 4, packet: 5, flags: 6, reserved_u8: 7, codec: 8, reserved: 12, dts: 16,
        composition_offset: 24, payload: 32, data: 48,
    });
    layout!(c::Block: 32, 8 {
        struct_size: 0, flags: 4, track: 5, reserved: 6, dts: 8, parts: 16, part_count: 24,
    });
    layout!(c::Sink: 24, 8 { struct_size: 0, reserved: 4, context: 8, block: 16, });
    layout!(c::Error: 256, 4 { struct_size: 0, reserved: 4, message: 8, });
    layout!(c::Logger: 24, 8 { struct_size: 0, reserved: 4, context: 8, log: 16, });
    layout!(c::OptionSpec: 56, 8 {
        name: 0, default_value: 8, doc: 16, choices: 24, min: 32, max: 40, kind: 48, variant: 49, reserved: 50,
    });
    layout!(c::Format: 120, 8 {
        struct_size: 0, transport: 4, reserved: 5, name: 8, version: 16, content_type: 24, extensions: 32,
        video_codecs: 40, audio_codecs: 48, options: 56, option_count: 64, set_logger: 72, remuxer: 80, tag: 88,
        finish: 96, state: 104, free: 112,
    });
}

#[test]
fn keeps_the_numbers_of_1_5() {
    assert_eq!(MAGIC, *b"remuxd\xff\x01");
    assert_eq!((ABI_MAJOR, ABI_MINOR), (1, 5));
    assert_eq!((TAG_KEYFRAME, TAG_DISCONTINUITY), (1, 2));
    assert_eq!((PUSH_TAKEN, PUSH_FULL, PUSH_ABORT), (0, 1, 2));
    assert_eq!((OPTION_FLAG, OPTION_INTEGER, OPTION_CHOICE, OPTION_TEXT), (0, 1, 2, 3));
    assert_eq!(OPTION_SELECTS_TRACK, 1);
    assert_eq!((FAULT_ERROR, FAULT_PANIC, FAULT_ABORTED, FAULT_POISONED), (0, 1, 2, 3));
    assert_eq!(FAULT_UNSUPPORTED, 4);
    assert_eq!((TRACKS_KNOWN, TRACKS_AUDIO, TRACKS_VIDEO), (1, 2, 4));
    assert_eq!(further_transports(&[]), 0);
    assert_eq!(further_transports(&[Transport::WEBSOCKET, Transport(7), Transport(8)]), 0b1000_0010);
    assert_eq!((c::OK, c::FAILED, c::UNSUPPORTED), (0, 1, 2));
}
