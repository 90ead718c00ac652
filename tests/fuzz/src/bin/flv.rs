//! FLV: tag headers lie within their tag; the prologue of a file is short and reads back; a remuxer writes a valid file for
//! any tags.
#![no_main]

use libfuzzer_sys::fuzz_target;
use remuxd_bitstream::flv::{
    FileError, FlvRemuxer, MAX_TAGS, PrologueReader, TagHeader, read_file, read_tag,
};
use remuxd_plugin_api::{Block, BlockFlags, Millis, Options, Remuxer, Setup, StreamFacts, Tag, TagKind};

const FORMS: [&str; 3] = ["as_published", "legacy", "enhanced"];

fn tag(kind: TagKind, dts: i64, body: &[u8]) -> Tag {
    let tracks = TagHeader::tracks(kind, body).map(|(_, header)| header);
    for header in tracks.chain([TagHeader::parse(kind, body)]) {
        assert!((header.data_offset + header.data_len) as usize <= body.len());
    }
    read_tag(kind, Millis(dts), body.to_vec().into())
}

/// Returns the prologue of a file from `start` on.
fn prologue(file: &[u8], start: u64) {
    let mut reader = PrologueReader::new(start);
    let mut steps = 0;
    while let Some(wanted) = reader.wants() {
        steps += 1;
        assert!(steps <= MAX_TAGS + 4 && wanted.end - wanted.start < 1 << 17);
        let at = |offset: u64| offset.min(file.len() as u64) as usize;
        if reader.feed(&file[at(wanted.start)..at(wanted.end)]).is_err() {
            return;
        }
    }
    let prologue = reader.into_bytes();
    assert!(prologue.len() <= 13 + file.len());
    for tag in read_file(&prologue) {
        // The sizes after a file's tags are not changed.
        match tag {
            Ok(_) | Err(FileError::PreviousTagSize { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let [form, stream @ ..] = data else { return };
    prologue(stream, u64::from(*form) << 4);
    for tag in read_file(stream).flatten() {
        assert!(tag.body.len() < 1 << 24);
    }
    let form = FORMS[usize::from(*form) % FORMS.len()];
    let options = Options::new(vec![("hevc".into(), form.into()), ("header_wait".into(), "100".into())]);
    let mut remuxer = FlvRemuxer::new(&Setup::new(options, StreamFacts::default()));
    let mut blocks: Vec<Block> = Vec::new();
    // Each tag: kind, milliseconds since the previous one, length, body.
    let (mut rest, mut dts) = (stream, 0);
    while let [kind, step, len, body @ ..] = rest {
        let (body, after) = body.split_at(usize::from(*len).min(body.len()));
        let kind = [TagKind::AUDIO, TagKind::VIDEO, TagKind::SCRIPT][usize::from(*kind) % 3];
        dts += i64::from(*step);
        remuxer.tag(&tag(kind, dts, body), &mut blocks).expect("small tags are remuxed");
        rest = after;
    }
    remuxer.finish(&mut blocks).expect("small tags are remuxed");
    let preamble = blocks.iter().position(|block| block.flags == BlockFlags::PREAMBLE);
    let Some(preamble) = preamble else { return assert!(blocks.is_empty()) };
    let media = blocks.iter().filter(|block| block.flags != BlockFlags::PREAMBLE);
    let file: Vec<u8> = std::iter::once(&blocks[preamble])
        .chain(media)
        .flat_map(|block| &block.parts)
        .flat_map(|part| part.iter().copied())
        .collect();
    let tags = read_file(&file).map(|tag| tag.expect("what was made can be read")).count();
    assert_eq!(tags, blocks.iter().filter(|block| block.flags != BlockFlags::PREAMBLE).count());
});
