//! Damaged files: truncated at many lengths, and with single flipped bits. Some still load; none ends the host.

use std::process::Command;

use crate::built::{LOADER, ModuleDir, bytes};
use crate::host::assert_good_works;

/// Number of lengths that are tried.
const CUTS: usize = 200;
/// Number of flipped bits that are tried. Each needs a process.
const FLIPS: usize = 200;
/// The file header and the program headers of a small library.
const HEADERS: usize = 64 + 10 * 56;

/// Returns the end of the last segment. Bytes after it are not mapped.
fn mapped_len(library: &[u8]) -> usize {
    let number = |at: usize| u64::from_ne_bytes(library[at..at + 8].try_into().expect("8 bytes")) as usize;
    let headers = number(32);
    let count = usize::from(u16::from_ne_bytes([library[56], library[57]]));
    (0..count)
        .map(|index| headers + index * 56)
        .filter(|&at| library[at..at + 4] == 1u32.to_ne_bytes())
        .map(|at| number(at + 8) + number(at + 32))
        .max()
        .expect("a library has segments")
}

#[test]
fn refuses_a_file_that_was_cut_anywhere() {
    let good = bytes("good");
    let mapped = mapped_len(&good);
    let dir = ModuleDir::new();
    let cuts = (4..HEADERS).step_by(31).chain((0..CUTS).map(|cut| mapped * cut / CUTS).skip(1));
    for len in cuts.chain([mapped - 1]) {
        dir.put("libremuxd_bad.so", &good[..len]);
        let (_, lines) = dir.load(&["bad"]);
        let [line] = &lines[..] else { panic!("{len}: {lines:?}") };
        let start = format!("module bad: DIR/libremuxd_bad.so: truncated: {len} bytes of at least ");
        let needed: usize =
            line.strip_prefix(&start).unwrap_or_else(|| panic!("{len}: {line}")).parse().unwrap();
        assert!(needed > len && needed <= mapped.max(HEADERS), "{line}");
    }
    // A library without section headers still loads.
    dir.put("libremuxd_good.so", &good[..mapped]);
    assert_good_works(&dir.load(&["good"]).0);
}

/// Every third flip is in the headers, one in the tables that the linker reads, and one anywhere.
fn flips(mapped: usize) -> impl Iterator<Item = usize> {
    // A step that is coprime to the lengths, so that no bit is tried twice.
    (0..FLIPS).map(move |flip| match flip % 3 {
        0 => flip * 7919 % (HEADERS * 8),
        1 => flip * 99_991 % (mapped / 10 * 8),
        _ => flip * 999_983 % (mapped * 8),
    })
}

#[test]
fn survives_a_flipped_bit_anywhere() {
    let good = bytes("good");
    let (damaged, whole) = (ModuleDir::new(), ModuleDir::new());
    let mut refused = 0;
    for bit in flips(mapped_len(&good)) {
        let mut library = good.clone();
        library[bit / 8] ^= 1 << (bit % 8);
        damaged.put("libremuxd_good.so", &library);
        let mut host = Command::new(LOADER);
        host.arg("after").args([damaged.path(), whole.path()]).env_remove("RUST_BACKTRACE");
        let output = host.output().unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "bit {bit}: {}: {printed}", output.status);
        assert!(printed.lines().count() <= 1 && printed.len() < 1500, "bit {bit}: {printed}");
        refused += printed.lines().count();
    }
    assert!(refused > FLIPS / 4, "only {refused} of {FLIPS} were refused");
}
