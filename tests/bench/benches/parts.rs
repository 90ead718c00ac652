//! Costs of the host's parts: the chunk stream of RTMP, each module, and the ring.
//!
//! `cargo bench --manifest-path tests/bench/Cargo.toml --features parts`

use std::hint::black_box;
use std::sync::Arc;
use std::task::{Context, Waker};

use bytes::{Buf, Bytes};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use remuxd::testing::media::{Millis, Tag, TagKind};
use remuxd::testing::rtmp::Input;
use remuxd::testing::rtmp::chunk::{ChunkLimits, ChunkReader, ChunkWriter};
use remuxd::testing::rtmp::message::MessageKind;
use remuxd::testing::rtmp::output::Output;
use remuxd::testing::stream::ring::{EntryRole, JoinAt, Pace, Reader, Ring, RingLimits};
use remuxd_bench::minute::{FORMATS, Minute};

/// Number of messages of a gigabyte's part that is read or written at once.
const MESSAGES: usize = 100;

/// A picture of 4 Mbit/s, in bytes.
const PICTURE: usize = 20_000;

/// Chunk sizes: the default of RTMP, which many encoders keep, and that of servers.
const CHUNK_SIZES: [u32; 3] = [128, 4096, 60_000];

/// Bytes that the host reads at once.
const READ: usize = 64 * 1024;

const READERS: [usize; 3] = [1, 100, 10_000];

criterion_group!(parts, chunk_writer, chunk_reader, modules, ring);
criterion_main!(parts);

fn chunk_writer(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("chunk writer");
    group.throughput(Throughput::Bytes((MESSAGES * PICTURE) as u64));
    for size in CHUNK_SIZES {
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(|| black_box(chunks(size).remaining()));
        });
    }
}

fn chunk_reader(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("chunk reader");
    group.throughput(Throughput::Bytes((MESSAGES * PICTURE) as u64));
    for size in CHUNK_SIZES {
        let mut output = chunks(size);
        let wire = output.copy_to_bytes(output.remaining());
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            let new = || ChunkReader::new(ChunkLimits::default());
            bencher.iter_batched(new, |reader| read_all(reader, &wire), BatchSize::LargeInput);
        });
    }
}

/// Writes messages in chunks of `size` bytes.
fn chunks(size: u32) -> Output {
    let payload = Bytes::from(vec![7; PICTURE]);
    let (mut writer, mut output) = (ChunkWriter::new(), Output::new());
    writer.write(2, MessageKind(1), 0, 0, &Bytes::copy_from_slice(&size.to_be_bytes()), &mut output);
    writer.set_chunk_size(size);
    for number in 0..MESSAGES as u32 {
        writer.write(6, MessageKind(9), 1, number * 40, &payload, &mut output);
    }
    output
}

/// Reads all messages, as they come from a socket.
fn read_all(mut reader: ChunkReader, wire: &[u8]) -> usize {
    let (mut input, mut count) = (Input::default(), 0);
    for piece in wire.chunks(READ) {
        input.extend_from_slice(piece);
        while let Some(message) = reader.read(&mut input).expect("the chunks are valid") {
            count += usize::from(message.payload.len() == PICTURE);
        }
    }
    assert_eq!(count, MESSAGES);
    count
}

fn modules(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("module");
    for format in FORMATS {
        let minute = Minute::new(format, 60);
        group.throughput(Throughput::Bytes(minute.bytes() as u64));
        group.bench_function(format, |bencher| bencher.iter(|| black_box(minute.remux(format))));
    }
}

/// A tick of a ring: two pictures and three frames of audio are pushed, and each reader takes them.
fn ring(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ring");
    let tags: Vec<_> = (0..5)
        .map(|number| {
            Tag::new(TagKind(if number < 2 { 9 } else { 8 }), Millis(0), Bytes::from(vec![7; 1000]))
        })
        .collect();
    for count in READERS {
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(BenchmarkId::new("readers", count), |bencher| {
            let ring = Ring::new(LIMITS);
            ring.push(tags[0].clone(), EntryRole::Join);
            let mut readers: Vec<_> = (0..count).map(|_| ring.reader(JoinAt::Newest, Pace::Merged)).collect();
            ring.flush();
            take_all(&mut readers);
            bencher.iter(|| {
                for (number, tag) in tags.iter().enumerate() {
                    let role = if number == 0 { EntryRole::Join } else { EntryRole::Media };
                    ring.push(tag.clone(), role);
                }
                ring.flush();
                take_all(&mut readers)
            });
        });
    }
}

const LIMITS: RingLimits = RingLimits {
    pace: Pace::Merged,
    window: Millis(1000),
    history: Millis(0),
    max_bytes: 1 << 20,
    max_gop_entries: 100,
    max_gop_bytes: 1 << 20,
};

/// Reads until nothing is left, and waits.
fn take_all(readers: &mut [Reader<Tag>]) -> usize {
    let mut context = Context::from_waker(Waker::noop());
    let mut taken = 0;
    for reader in readers {
        while let std::task::Poll::Ready(Some(batch)) = reader.poll_read(&mut context) {
            taken += Arc::as_ref(&batch).len();
        }
    }
    taken
}
