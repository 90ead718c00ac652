//! FLV that an origin sends: input in parts of any size gives the same tags, those that `read_file` finds; memory follows what has
//! come, and returns to the budget.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use remuxd::testing::budget::Budget;
use remuxd::testing::cluster::{FlvError, FlvReader};
use remuxd::testing::media::{Tag, TagKind};
use remuxd_bitstream::flv::read_file;

const LIMIT: u32 = 1 << 20;
/// The most memory of a tag that is not whole, beside its bytes: an allocation before any of it has come, and an estimate of the rest.
const BESIDE: usize = (64 << 10) + 256;

/// Returns the tags of a file that comes in parts, and the error or whether the file may end there.
fn read(file: &[u8], step: usize) -> (Vec<Tag>, Result<bool, FlvError>) {
    let budget = Budget::new(1 << 30);
    let used = || budget.usage().used.iter().map(|(_, bytes)| bytes).sum::<usize>();
    let mut reader = FlvReader::new(LIMIT, budget.address().account());
    let mut tags = Vec::new();
    let mut result = Ok(true);
    'parts: for part in file.chunks(step) {
        let mut input = Bytes::copy_from_slice(part);
        loop {
            match reader.read(&mut input) {
                // Copies, so that only what the reader keeps is charged.
                Ok(Some(tag)) => tags.push(Tag { payload: Bytes::copy_from_slice(&tag.payload), ..tag }),
                Ok(None) => break assert!(input.is_empty()),
                Err(error) => {
                    result = Err(error);
                    break 'parts;
                }
            }
        }
        assert!(used() <= 2 * file.len() + BESIDE, "{} bytes", used());
    }
    let result = result.map(|_| reader.is_between_tags());
    drop(reader);
    assert_eq!(used(), 0);
    (tags, result)
}

fn facts(tag: &Tag) -> (TagKind, u32, &[u8]) {
    (tag.kind, tag.dts.0 as u32, &tag.payload)
}

fuzz_target!(|data: &[u8]| {
    let [step, file @ ..] = data else { return };
    let whole = read(file, file.len().max(1));
    let parts = read(file, usize::from(*step) + 1);
    assert_eq!(whole.1, parts.1);
    assert!(whole.0.iter().map(facts).eq(parts.0.iter().map(facts)));
    let known = [TagKind::AUDIO, TagKind::VIDEO, TagKind::SCRIPT];
    let found = read_file(file).map_while(Result::ok).filter(|tag| known.contains(&tag.kind));
    for (tag, found) in whole.0.iter().zip(found) {
        assert_eq!(facts(tag), (found.kind, found.timestamp, found.body));
    }
});
