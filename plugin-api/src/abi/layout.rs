//! The golden table: what the types of the interface look like in memory. A line that changes breaks every module
//! that was built before; only a new major version may.

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
fn keeps_the_layout_of_1_1() {
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

#[test]
fn keeps_the_numbers_of_1_1() {
    assert_eq!(MAGIC, *b"remuxd\xff\x01");
    assert_eq!((ABI_MAJOR, ABI_MINOR), (1, 1));
    assert_eq!((TAG_KEYFRAME, TAG_DISCONTINUITY), (1, 2));
    assert_eq!((PUSH_TAKEN, PUSH_FULL, PUSH_ABORT), (0, 1, 2));
    assert_eq!((OPTION_FLAG, OPTION_INTEGER, OPTION_CHOICE, OPTION_TEXT), (0, 1, 2, 3));
    assert_eq!((FAULT_ERROR, FAULT_PANIC, FAULT_ABORTED, FAULT_POISONED), (0, 1, 2, 3));
}
