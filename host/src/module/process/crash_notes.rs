//! Crash notes: a small mapped file in which the host writes which module call each worker is in.
//!
//! A module with `isolation = "none"` that crashes ends the host, and nothing runs any more that could say why. The file
//! survives. The next host reads it, and starts the build that was called in a process of its own, until an operator reloads
//! it.
//!
//! The file has a header and one slot for each worker thread. A slot is written by its thread alone: its text at the start of a
//! job's run, its state with one byte before and after each call. A host that ends in good order says so in the header. A host
//! that is killed from outside in the middle of a call leaves the same notes as a crash; that costs some speed, not service.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use parking_lot::Mutex;
use rustix::fs::{FlockOperation, flock};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// Length of the header and of each slot, in bytes.
const SLOT: usize = 512;
/// Number of slots: of worker threads, with replaced ones. Further threads have no notes.
const SLOTS: usize = 128;
const LEN: usize = SLOT * (SLOTS + 1);
/// State of the header while a host runs, and of a slot during a call.
const BUSY: u8 = 1;
/// Starts the header, after its state.
const MAGIC: &[u8] = b"remuxd crash notes 1";
/// Separates the parts of a note.
const SEPARATOR: char = '\0';

/// A module call that was under way when a host ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrashNote {
    /// The module's name.
    pub module: String,
    /// The build, see `Staged::build`.
    pub build: u64,
    /// The generation's number in that host.
    pub generation: u64,
    /// The stream.
    pub stream: String,
}

impl CrashNote {
    /// The text of the note, for [`Slot::write`].
    pub fn text(&self) -> String {
        let CrashNote { module, build, generation, stream } = self;
        format!("{module}{SEPARATOR}{build:016x}{SEPARATOR}{generation}{SEPARATOR}{stream}")
    }

    fn read(text: &str) -> Option<CrashNote> {
        let mut parts = text.splitn(4, SEPARATOR);
        Some(CrashNote {
            module: parts.next()?.to_owned(),
            build: u64::from_str_radix(parts.next()?, 16).ok()?,
            generation: parts.next()?.parse().ok()?,
            stream: parts.next()?.to_owned(),
        })
    }
}

/// The file of a running host.
#[derive(Debug)]
pub struct CrashNotes {
    map: NonNull<u8>,
    /// Locked against other hosts.
    _file: File,
    path: PathBuf,
    free: Mutex<Vec<usize>>,
}

// SAFETY: the mapping belongs to the process. Each slot is written by one thread, and state bytes are atomic.
unsafe impl Send for CrashNotes {}
// SAFETY: as above.
unsafe impl Sync for CrashNotes {}

impl CrashNotes {
    /// Opens the file at `path`, in a directory that only this user can write to. Also returns the notes of the last host, if
    /// it did not end in good order.
    ///
    /// # Errors
    /// The file cannot be written, or another host uses it.
    pub fn open(path: &Path) -> io::Result<(CrashNotes, Vec<CrashNote>)> {
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(path)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        let notes = read(&fs::read(path)?);
        // All of it is written, not only made longer: a page without a block on a full disk would end the host by SIGBUS.
        let mut empty = vec![0; LEN];
        empty[..=MAGIC.len()].copy_from_slice(&[&[BUSY], MAGIC].concat());
        file.write_all(&empty)?;
        let (access, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: a new mapping of a file of this length, which nobody truncates: it is locked, and in a directory of this user.
        let map = unsafe { mmap(std::ptr::null_mut(), LEN, access, flags, &file, 0) }?;
        let map = NonNull::new(map.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        let free = Mutex::new((1..=SLOTS).rev().collect());
        Ok((CrashNotes { map, _file: file, path: path.to_owned(), free }, notes))
    }

    /// Removes the file at `path` unless a host uses it.
    pub fn remove_unused(path: &Path) {
        let file = File::open(path).ok();
        if file.is_some_and(|file| flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()) {
            // It may be gone already.
            let _ = fs::remove_file(path);
        }
    }

    /// Returns a slot for a thread; `None` if there is none left.
    pub fn slot(self: &Arc<Self>) -> Option<Slot> {
        let number = self.free.lock().pop()?;
        Some(Slot { notes: self.clone(), number })
    }

    /// Records that this host ends in good order.
    pub fn close(&self) {
        self.state(0).store(0, Ordering::Release);
        // Only the next host reads it.
        let _ = fs::remove_file(&self.path);
    }

    fn state(&self, slot: usize) -> &AtomicU8 {
        // SAFETY: within the mapping, which lives as long as this; the byte is accessed atomically only.
        unsafe { AtomicU8::from_ptr(self.map.as_ptr().add(slot * SLOT)) }
    }
}

impl Drop for CrashNotes {
    fn drop(&mut self) {
        // SAFETY: the mapping that `open` made; slots hold this.
        let _ = unsafe { munmap(self.map.as_ptr().cast(), LEN) };
    }
}

/// The notes of one thread.
#[derive(Debug)]
pub struct Slot {
    notes: Arc<CrashNotes>,
    number: usize,
}

impl Slot {
    /// Writes what the next calls belong to: the [text](CrashNote::text) of a note, which is cut if it is too long.
    pub fn write(&mut self, text: &str) {
        let text = &text.as_bytes()[..text.len().min(SLOT - 3)];
        let start = self.number * SLOT;
        // SAFETY: within the slot, which this thread alone writes.
        unsafe {
            let slot = self.notes.map.as_ptr().add(start);
            slot.add(1).copy_from_nonoverlapping((text.len() as u16).to_le_bytes().as_ptr(), 2);
            slot.add(3).copy_from_nonoverlapping(text.as_ptr(), text.len());
        }
    }

    /// A call begins.
    pub fn begin(&self) {
        self.notes.state(self.number).store(BUSY, Ordering::Release);
    }

    /// The call has returned.
    pub fn end(&self) {
        self.notes.state(self.number).store(0, Ordering::Release);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // Its state stays: a module that calls `exit` drops this too, in the middle of a call.
        self.notes.free.lock().push(self.number);
    }
}

/// Reads the notes of calls that were under way in a host that did not end in good order.
fn read(bytes: &[u8]) -> Vec<CrashNote> {
    if bytes.len() != LEN || bytes[0] != BUSY || !bytes[1..].starts_with(MAGIC) {
        return Vec::new();
    }
    let busy = bytes.chunks(SLOT).skip(1).filter(|slot| slot[0] == BUSY);
    let note = |slot: &[u8]| {
        let len = usize::from(u16::from_le_bytes([slot[1], slot[2]]));
        CrashNote::read(&String::from_utf8_lossy(slot.get(3..3 + len)?))
    };
    busy.filter_map(note).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("remuxd-notes-{}-{name}", std::process::id()))
    }

    fn note(module: &str, stream: &str) -> CrashNote {
        CrashNote {
            module: module.into(),
            build: 0xfedc_ba98_7654_3210,
            generation: 7,
            stream: stream.into(),
        }
    }

    #[test]
    fn calls_that_were_under_way_are_found_by_the_next_host() {
        let path = path("busy");
        let (notes, before) = CrashNotes::open(&path).unwrap();
        assert_eq!(before, []);
        let notes = Arc::new(notes);
        let [mut hung, mut idle, mut crashed] = [(); 3].map(|()| notes.slot().unwrap());
        hung.write(&note("ts", "live/a").text());
        hung.begin();
        idle.write(&note("flv", "live/b").text());
        idle.begin();
        idle.end();
        crashed.write(&note("x", "live/older").text());
        crashed.write(&note("mp3", &"s".repeat(900)).text());
        crashed.begin();
        let second = CrashNotes::open(&path);
        assert!(second.is_err(), "another host uses it");
        let copy = fs::read(&path).unwrap();
        let found = read(&copy);
        assert_eq!(found[0], note("ts", "live/a"));
        assert_eq!((&*found[1].module, found[1].stream.len(), found.len()), ("mp3", 486, 2));
        [&hung, &crashed].into_iter().for_each(Slot::end);
        assert_eq!(read(&fs::read(&path).unwrap()), []);
        CrashNotes::remove_unused(&path);
        assert!(path.exists());
        notes.close();
        assert!(!path.exists());
        // As it was when the host ended.
        fs::write(&path, copy).unwrap();
        let (next, found_again) = CrashNotes::open(&path).unwrap();
        assert_eq!(found_again, found);
        drop(next);
        CrashNotes::remove_unused(&path);
        assert!(!path.exists());
    }

    #[test]
    fn a_damaged_file_has_no_notes() {
        let path = path("damaged");
        let (notes, _) = CrashNotes::open(&path).unwrap();
        let notes = Arc::new(notes);
        let mut slot = notes.slot().unwrap();
        slot.write(&note("ts", "live/a").text());
        slot.begin();
        let good = fs::read(&path).unwrap();
        notes.close();
        type Damage = fn(&mut Vec<u8>);
        let cases: [(&str, Damage); 6] = [
            ("closed", |bytes| bytes[0] = 0),
            ("short", |bytes| bytes.truncate(LEN - 1)),
            ("another file", |bytes| bytes[1] = 0),
            ("a length beyond the slot", |bytes| bytes[SLOT + 2] = 0xff),
            ("no note", |bytes| bytes[SLOT + 3..].fill(b'x')),
            ("not UTF-8", |bytes| bytes[SLOT + 3..].fill(0xff)),
        ];
        for (name, damage) in cases {
            let mut bytes = good.clone();
            damage(&mut bytes);
            assert_eq!(read(&bytes), [], "{name}");
        }
        assert_eq!(read(&good).len(), 1);
    }

    #[test]
    fn threads_without_a_slot_have_no_notes() {
        let path = path("full");
        let notes = Arc::new(CrashNotes::open(&path).unwrap().0);
        let slots: Vec<_> = std::iter::from_fn(|| notes.slot()).collect();
        assert_eq!(slots.len(), SLOTS);
        drop(slots);
        assert!(notes.slot().is_some());
        notes.close();
    }
}
