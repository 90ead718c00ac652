use bytes::Bytes;
use remuxd_bitstream::flv::{FileTag, file_header, tag_header, write_file};

use super::reader::{FlvError, FlvReader};
use crate::budget::{Account, Budget};
use crate::media::TagKind;

const LIMIT: u32 = 200_000;

/// Returns kind, time and length of each tag of a file that comes in pieces of `step` bytes, and the error or whether the file
/// may end there.
fn read(file: &[u8], step: usize) -> (Vec<String>, Result<bool, FlvError>) {
    let mut reader = FlvReader::new(LIMIT, Account::unlimited());
    let mut tags = Vec::new();
    for part in file.chunks(step) {
        let mut input = Bytes::copy_from_slice(part);
        loop {
            match reader.read(&mut input) {
                Ok(Some(tag)) => tags.push(format!("{} {} {}", tag.kind.0, tag.dts.0, tag.payload.len())),
                Ok(None) => break assert!(input.is_empty()),
                Err(error) => return (tags, Err(error)),
            }
        }
    }
    (tags, Ok(reader.is_between_tags()))
}

#[test]
fn tags_are_read_whole_and_byte_by_byte() {
    let large = vec![7; 150_000];
    let file = write_file([
        FileTag { kind: TagKind::SCRIPT, timestamp: 0, body: b"meta" },
        FileTag { kind: TagKind::AUDIO, timestamp: 0x0102_0304, body: b"" },
        FileTag { kind: TagKind(11), timestamp: 5, body: b"no kind of ours" },
        FileTag { kind: TagKind::VIDEO, timestamp: u32::MAX, body: &large },
    ]);
    let expected = ["18 0 4", "8 16909060 0", "9 4294967295 150000"].map(str::to_owned).to_vec();
    for step in [1, 7, 4096, file.len()] {
        assert_eq!(read(&file, step), (expected.clone(), Ok(true)), "{step}");
    }
    let without_last_size = &file[..file.len() - 4];
    assert_eq!(read(without_last_size, 4096), (expected, Ok(true)));
    assert_eq!(read(&file[..file.len() - 5], 4096).1, Ok(false), "in the middle of a tag");
    let mut longer = [b"FLV\x01\x05\0\0\0\x0c" as &[u8], b"xyz", &[0, 0, 0, 9]].concat();
    longer.extend(&file[13..]);
    assert_eq!(read(&longer, 5).0.len(), 3);
}

#[test]
fn rubbish_is_refused() {
    let one = write_file([FileTag { kind: TagKind::VIDEO, timestamp: 0, body: b"x" }]);
    let change = |at: usize, to: u8| {
        let mut file = one.clone();
        file[at] = to;
        file
    };
    let rows = [
        (b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), FlvError::NoHeader),
        (change(0, b'f'), FlvError::NoHeader),
        (change(5, 1), FlvError::NoHeader),
        (change(8, 0), FlvError::NoHeader),
        (change(13, 0x29), FlvError::Encrypted),
        (change(14, 0xff), FlvError::TagTooLong { len: 0xff_0001, limit: LIMIT }),
        (change(28, 99), FlvError::PreviousTagSize { found: 99, expected: 12 }),
    ];
    for (file, error) in rows {
        for step in [1, file.len()] {
            assert_eq!(read(&file, step).1, Err(error), "{error}");
        }
    }
}

#[test]
fn a_length_alone_takes_little_memory_and_a_tag_no_more_than_there_is() {
    let budget = Budget::new(300_000);
    let account = budget.address().account();
    let mut reader = FlvReader::new(LIMIT, account.clone());
    let used = || budget.usage().used.iter().map(|(_, used)| used).sum::<usize>();
    let mut head =
        Bytes::from([&file_header(true, true)[..], &tag_header(TagKind::VIDEO, LIMIT, 0), b"x"].concat());
    assert!(reader.read(&mut head).unwrap().is_none());
    assert!(used() < 70_000, "{}", used());
    let refused = reader.read(&mut Bytes::from(vec![0; LIMIT as usize]));
    assert!(matches!(refused, Err(FlvError::OverBudget(_))), "{refused:?}");
    drop(reader);
    assert_eq!(used(), 0);
}
