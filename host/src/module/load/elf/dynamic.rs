//! The tables that the dynamic linker finds through `PT_DYNAMIC` (System V ABI, chapter 5; versions and hashes as in the
//! GNU extensions of the Linux Standard Base).
//!
//! glibc checks none of these offsets and indices. A wrong one makes it read or write foreign memory, which the child
//! process may survive and the host, whose mappings differ, may not. In trials without this file, the host's process was ended
//! by 8 of 56 files with a relocation that leads a few pages past the image, and by 1 of 5,000 files with a random change in
//! these tables (a version index past its array). The promise "a damaged module is refused" needs these checks.

use super::error::ElfError;
use super::image::{Image, damaged, read_u16, read_u32, read_u64};

/// `d_tag`.
const DT_NULL: u64 = 0;
const DT_NEEDED: u64 = 1;
const DT_PLTRELSZ: u64 = 2;
const DT_PLTGOT: u64 = 3;
const DT_HASH: u64 = 4;
const DT_STRTAB: u64 = 5;
const DT_SYMTAB: u64 = 6;
const DT_RELA: u64 = 7;
const DT_RELASZ: u64 = 8;
const DT_STRSZ: u64 = 10;
const DT_INIT: u64 = 12;
const DT_FINI: u64 = 13;
const DT_SONAME: u64 = 14;
const DT_RPATH: u64 = 15;
const DT_REL: u64 = 17;
const DT_PLTREL: u64 = 20;
const DT_JMPREL: u64 = 23;
const DT_INIT_ARRAY: u64 = 25;
const DT_FINI_ARRAY: u64 = 26;
const DT_INIT_ARRAYSZ: u64 = 27;
const DT_FINI_ARRAYSZ: u64 = 28;
const DT_RUNPATH: u64 = 29;
const DT_RELRSZ: u64 = 35;
const DT_RELR: u64 = 36;
const DT_GNU_HASH: u64 = 0x6fff_fef5;
const DT_VERSYM: u64 = 0x6fff_fff0;
const DT_VERDEF: u64 = 0x6fff_fffc;
const DT_VERNEED: u64 = 0x6fff_fffe;

/// Tables with an address, its length in bytes, and the length of an entry.
const TABLES: [(u64, u64, u64); 5] = [
    (DT_RELA, DT_RELASZ, RELOCATION_LEN),
    (DT_JMPREL, DT_PLTRELSZ, RELOCATION_LEN),
    (DT_RELR, DT_RELRSZ, WORD),
    (DT_INIT_ARRAY, DT_INIT_ARRAYSZ, WORD),
    (DT_FINI_ARRAY, DT_FINI_ARRAYSZ, WORD),
];

const WORD: u64 = 8;
const ENTRY_LEN: usize = 16;
const SYMBOL_LEN: u64 = 24;
const RELOCATION_LEN: u64 = 24;

/// `st_shndx`: SHN_UNDEF, and the first that is no section.
const UNDEFINED: u16 = 0;
const RESERVED: u16 = 0xff00;
/// `st_info`: STT_TLS.
const TYPE_TLS: u8 = 6;
/// The index in an entry of the version table; the remaining bit marks a hidden symbol.
const VERSION: u16 = 0x7fff;

/// Checks everything that the linker follows from `table`, the bytes of `PT_DYNAMIC`.
pub fn check(image: &Image<'_>, table: &[u8]) -> Result<(), ElfError> {
    let dynamic = Dynamic::read(table)?;
    let strings = check_strings(image, &dynamic)?;
    for (tag, len) in [(DT_INIT, 1), (DT_FINI, 1), (DT_PLTGOT, 3 * WORD)] {
        if let Some(address) = dynamic.value(tag)
            && !image.holds(address, len)
        {
            return Err(damaged("an address in PT_DYNAMIC", address));
        }
    }
    if dynamic.value(DT_REL).is_some() || dynamic.value(DT_PLTREL).is_some_and(|kind| kind != DT_RELA) {
        return Err(damaged("kind of relocations", DT_REL));
    }
    let symbols = count_symbols(image, &dynamic)?;
    check_symbols(image, &dynamic, symbols, strings)?;
    check_versions(image, &dynamic, symbols, strings)?;
    for (address, len, entry_len) in TABLES {
        let Some(table) = dynamic.table(image, address, len, entry_len)? else { continue };
        match address {
            DT_RELA | DT_JMPREL => check_relocations(image, table, symbols)?,
            DT_RELR => check_relative(image, table)?,
            // The linker reads these after relocation.
            _ => {}
        }
    }
    Ok(())
}

/// The entries of `PT_DYNAMIC`.
struct Dynamic(Vec<(u64, u64)>);

impl Dynamic {
    fn read(table: &[u8]) -> Result<Dynamic, ElfError> {
        let mut entries = Vec::new();
        for entry in table.chunks_exact(ENTRY_LEN) {
            match read_u64(entry, 0)? {
                DT_NULL => return Ok(Dynamic(entries)),
                tag => entries.push((tag, read_u64(entry, 8)?)),
            }
        }
        Err(damaged("length of PT_DYNAMIC", table.len() as u64))
    }

    /// Returns the value of a tag; the last of equal ones, as the linker does.
    fn value(&self, tag: u64) -> Option<u64> {
        self.0.iter().rev().find(|entry| entry.0 == tag).map(|entry| entry.1)
    }

    fn needed(&self, tag: u64) -> Result<u64, ElfError> {
        self.value(tag).ok_or(damaged("missing tag of PT_DYNAMIC", tag))
    }

    /// Returns the bytes of a table, if there is one.
    fn table<'a>(
        &self,
        image: &Image<'a>,
        address: u64,
        len: u64,
        entry_len: u64,
    ) -> Result<Option<&'a [u8]>, ElfError> {
        if self.value(address).is_none() && self.value(len).is_none() {
            return Ok(None);
        }
        let (address, len) = (self.needed(address)?, self.needed(len)?);
        if len % entry_len != 0 {
            return Err(damaged("length of a table", len));
        }
        image.bytes(address, len).map(Some).ok_or(damaged("address of a table", address))
    }
}

/// Checks that all strings end and that those of `PT_DYNAMIC` exist. Returns the length of the string table.
fn check_strings(image: &Image<'_>, dynamic: &Dynamic) -> Result<u64, ElfError> {
    let (address, len) = (dynamic.needed(DT_STRTAB)?, dynamic.needed(DT_STRSZ)?);
    match image.bytes(address, len) {
        Some([.., 0]) => {}
        _ => return Err(damaged("address of the strings", address)),
    }
    for &(tag, value) in &dynamic.0 {
        if matches!(tag, DT_NEEDED | DT_SONAME | DT_RPATH | DT_RUNPATH) {
            check_below("a string in PT_DYNAMIC", value, len)?;
        }
    }
    Ok(len)
}

/// Returns the number of symbols. Only the hash tables have it; if they are empty, the highest symbol that a relocation
/// names counts.
fn count_symbols(image: &Image<'_>, dynamic: &Dynamic) -> Result<u64, ElfError> {
    match count_hashed(image, dynamic)? {
        Some(count) => Ok(count),
        None => {
            let tables = [(DT_RELA, DT_RELASZ), (DT_JMPREL, DT_PLTRELSZ)];
            let mut count = 0;
            for (address, len) in tables {
                let table = dynamic.table(image, address, len, RELOCATION_LEN)?.unwrap_or_default();
                for relocation in table.chunks_exact(RELOCATION_LEN as usize) {
                    count = count.max((read_u64(relocation, 8)? >> 32) + 1);
                }
            }
            Ok(count)
        }
    }
}

fn count_hashed(image: &Image<'_>, dynamic: &Dynamic) -> Result<Option<u64>, ElfError> {
    if let Some(address) = dynamic.value(DT_GNU_HASH) {
        count_gnu_hash(image, address).ok_or(damaged("DT_GNU_HASH", address))?
    } else {
        let address = dynamic.needed(DT_HASH)?;
        count_hash(image, address).ok_or(damaged("DT_HASH", address))?.map(Some)
    }
}

/// DT_HASH: numbers of buckets and of symbols, the buckets, and for each symbol the next of its bucket.
fn count_hash(image: &Image<'_>, address: u64) -> Option<Result<u64, ElfError>> {
    let word = |index: u64| read_u32(image.bytes(address.checked_add(4 * index)?, 4)?, 0).ok();
    let (buckets, symbols) = (u64::from(word(0)?), u64::from(word(1)?));
    for index in 0..buckets + symbols {
        let symbol = u64::from(word(2 + index)?);
        if symbol >= symbols {
            return Some(Err(damaged("a symbol in DT_HASH", symbol)));
        }
    }
    Some(Ok(symbols))
}

/// DT_GNU_HASH: numbers of buckets, of symbols that are not hashed, and of 64-bit words in the filter; a shift, the
/// filter, the buckets, and a hash for each further symbol, odd at the end of a bucket. No count if none is hashed.
fn count_gnu_hash(image: &Image<'_>, address: u64) -> Option<Result<Option<u64>, ElfError>> {
    let word = |offset: u64| read_u32(image.bytes(address.checked_add(offset)?, 4)?, 0).ok().map(u64::from);
    let (buckets, unhashed, filter) = (word(0)?, word(4)?, word(8)?);
    if !filter.is_power_of_two() {
        return Some(Err(damaged("length of the filter in DT_GNU_HASH", filter)));
    }
    let buckets_at = 16 + 8 * filter;
    let hashes_at = buckets_at + 4 * buckets;
    let mut last = None;
    for bucket in 0..buckets {
        match word(buckets_at + 4 * bucket)? {
            0 => {}
            symbol if symbol < unhashed => return Some(Err(damaged("a symbol in DT_GNU_HASH", symbol))),
            symbol => last = last.max(Some(symbol)),
        }
    }
    let Some(mut symbol) = last else { return Some(Ok(None)) };
    while word(hashes_at + 4 * (symbol - unhashed))? & 1 == 0 {
        symbol += 1;
    }
    Some(Ok(Some(symbol + 1)))
}

fn check_symbols(image: &Image<'_>, dynamic: &Dynamic, count: u64, strings: u64) -> Result<(), ElfError> {
    let address = dynamic.needed(DT_SYMTAB)?;
    let table = image.bytes(address, count * SYMBOL_LEN).ok_or(damaged("address of the symbols", address))?;
    for symbol in table.chunks_exact(SYMBOL_LEN as usize) {
        check_below("name of a symbol", read_u32(symbol, 0)?.into(), strings)?;
        let (kind, section, value) = (symbol[4] & 15, read_u16(symbol, 6)?, read_u64(symbol, 8)?);
        if section != UNDEFINED && section < RESERVED && kind != TYPE_TLS {
            check_below("address of a symbol", value, image.end() + 1)?;
        }
    }
    Ok(())
}

/// Checks that each symbol's version exists: the linker keeps versions in an array.
fn check_versions(image: &Image<'_>, dynamic: &Dynamic, symbols: u64, strings: u64) -> Result<(), ElfError> {
    let Some(address) = dynamic.value(DT_VERSYM) else { return Ok(()) };
    let table = image.bytes(address, 2 * symbols).ok_or(damaged("DT_VERSYM", address))?;
    let mut last = 1;
    if let Some(address) = dynamic.value(DT_VERNEED) {
        let highest = needed_versions(image, address, strings);
        last = last.max(highest.ok_or(damaged("a table of versions", address))?);
    }
    if let Some(address) = dynamic.value(DT_VERDEF) {
        let highest = defined_versions(image, address, strings);
        last = last.max(highest.ok_or(damaged("a table of versions", address))?);
    }
    for version in table.chunks_exact(2) {
        let version = read_u16(version, 0)? & VERSION;
        check_below("version of a symbol", version.into(), u64::from(last) + 1)?;
    }
    Ok(())
}

/// Returns the highest version index of DT_VERNEED, or `None` if a link leads out of the image: for each library a name and a list of its versions, linked by offsets.
fn needed_versions(image: &Image<'_>, table: u64, strings: u64) -> Option<u16> {
    let mut highest = 0;
    for (at, need) in (Links { image, len: 16, next_at: 12, at: Some(table) }) {
        let need = need?;
        let list = at.checked_add(read_u32(need, 8).ok()?.into())?;
        for (_, version) in (Links { image, len: 16, next_at: 12, at: Some(list) }) {
            let version = version?;
            highest = highest.max(read_u16(version, 6).ok()? & VERSION);
            is_string(version, 8, strings)?;
        }
        is_string(need, 4, strings)?;
    }
    Some(highest)
}

/// Returns the highest version index of DT_VERDEF, or `None` if a link leads out of the image: versions with a list of names each, linked by offsets. The first name is the version's own.
fn defined_versions(image: &Image<'_>, table: u64, strings: u64) -> Option<u16> {
    let mut highest = 0;
    for (at, version) in (Links { image, len: 20, next_at: 16, at: Some(table) }) {
        let version = version?;
        highest = highest.max(read_u16(version, 4).ok()? & VERSION);
        let name = at.checked_add(read_u32(version, 12).ok()?.into())?;
        is_string(image.bytes(name, 8)?, 0, strings)?;
    }
    Some(highest)
}

/// Checks that the offset of a string at `at` is below `strings`.
fn is_string(entry: &[u8], at: usize, strings: u64) -> Option<()> {
    (u64::from(read_u32(entry, at).ok()?) < strings).then_some(())
}

/// Structs linked by the offset to the next, 0 in the last. Yields the address and, if it lies in the image, the bytes.
struct Links<'a, 'b> {
    image: &'b Image<'a>,
    /// Length of a struct.
    len: u64,
    /// Position of the offset in the struct.
    next_at: usize,
    at: Option<u64>,
}

impl<'a> Iterator for Links<'a, '_> {
    type Item = (u64, Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        let at = self.at.take()?;
        let bytes = self.image.bytes(at, self.len);
        let next = bytes.and_then(|bytes| read_u32(bytes, self.next_at).ok()).filter(|&next| next != 0);
        // No bytes lie at a saturated address, so the next step ends the walk.
        self.at = next.map(|next| at.saturating_add(next.into()));
        Some((at, bytes))
    }
}

/// Checks that each relocation writes inside the library, and points there if it has no symbol.
fn check_relocations(image: &Image<'_>, table: &[u8], symbols: u64) -> Result<(), ElfError> {
    for relocation in table.chunks_exact(RELOCATION_LEN as usize) {
        let (address, info, addend) =
            (read_u64(relocation, 0)?, read_u64(relocation, 8)?, read_u64(relocation, 16)?);
        check_target(image, address)?;
        match info >> 32 {
            0 => check_below("target of a relocation", addend, image.end() + 1)?,
            symbol => check_below("symbol of a relocation", symbol, symbols)?,
        }
    }
    Ok(())
}

/// DT_RELR: an even word is the target of a relocation, an odd one has a bit for each of the 63 words that follow.
fn check_relative(image: &Image<'_>, table: &[u8]) -> Result<(), ElfError> {
    let mut next = 0u64;
    for word in table.chunks_exact(WORD as usize) {
        let word = read_u64(word, 0)?;
        if word & 1 == 0 {
            check_target(image, word)?;
            next = word + WORD;
        } else {
            for bit in (0..63).filter(|bit| word >> (bit + 1) & 1 != 0) {
                check_target(image, next + WORD * bit)?;
            }
            next = next.saturating_add(63 * WORD);
        }
    }
    Ok(())
}

fn check_target(image: &Image<'_>, address: u64) -> Result<(), ElfError> {
    if image.holds(address, WORD) { Ok(()) } else { Err(damaged("address of a relocation", address)) }
}

fn check_below(what: &'static str, value: u64, end: u64) -> Result<(), ElfError> {
    if value < end { Ok(()) } else { Err(damaged(what, value)) }
}

#[cfg(test)]
mod tests {
    use super::super::image::Segment;
    use super::super::tests::library;
    use super::super::{check_elf, check_segments};
    use super::*;

    /// Returns where the table of `tag` starts in the file.
    fn table(file: &[u8], tag: u64) -> usize {
        let (image, dynamic) = check_segments(file).unwrap();
        let address = Dynamic::read(dynamic).unwrap().needed(tag).unwrap();
        image.bytes(address, 1).unwrap().as_ptr() as usize - file.as_ptr() as usize
    }

    /// Returns where the entry of `tag` in `PT_DYNAMIC` starts in the file.
    fn entry(file: &[u8], tag: u64) -> usize {
        let (_, dynamic) = check_segments(file).unwrap();
        let index = dynamic.chunks_exact(ENTRY_LEN).position(|entry| entry[..8] == tag.to_ne_bytes());
        dynamic.as_ptr() as usize - file.as_ptr() as usize + index.unwrap() * ENTRY_LEN
    }

    fn line(at: usize, bytes: &[u8]) -> String {
        let mut file = library();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        check_elf(&file).map_or_else(|error| error.to_string(), |_| "accepted".into())
    }

    #[test]
    fn refuses_offsets_that_lead_out_of_the_image() {
        let file = library();
        let wide = u32::MAX.to_ne_bytes();
        let far = (1u64 << 40).to_ne_bytes();
        let rows: [(usize, &[u8], &str); 14] = [
            (entry(&file, DT_STRTAB) + 8, &far, "damaged: address of the strings is 0x10000000000"),
            (entry(&file, DT_STRSZ) + 8, &[1, 0], "damaged: "),
            (entry(&file, DT_SONAME) + 8, &far, "damaged: a string in PT_DYNAMIC is 0x10000000000"),
            (entry(&file, DT_PLTGOT) + 8, &far, "damaged: an address in PT_DYNAMIC is 0x10000000000"),
            (entry(&file, DT_SYMTAB) + 8, &far, "damaged: address of the symbols is 0x10000000000"),
            (entry(&file, DT_RELASZ) + 8, &[1], "damaged: length of a table is 0x"),
            (entry(&file, DT_RELA), &[22], "damaged: missing tag of PT_DYNAMIC is 0x7"),
            (table(&file, DT_SYMTAB) + 24, &wide, "damaged: name of a symbol is 0xffffffff"),
            (table(&file, DT_VERSYM) + 2, &[0xf0, 0x7f], "damaged: version of a symbol is 0x7ff0"),
            (table(&file, DT_VERNEED) + 8, &wide, "damaged: a table of versions is 0x"),
            (table(&file, DT_VERDEF) + 16, &wide, "damaged: a table of versions is 0x"),
            (table(&file, DT_GNU_HASH), &wide, "damaged: a symbol in DT_GNU_HASH is 0x"),
            (table(&file, DT_RELA), &far, "damaged: address of a relocation is 0x10000000000"),
            (table(&file, DT_RELA) + 12, &wide, "damaged: symbol of a relocation is 0xffffffff"),
        ];
        for (at, bytes, expected) in rows {
            let line = line(at, bytes);
            assert!(line.starts_with(expected), "{line}, not {expected}");
        }
    }

    #[test]
    fn reads_the_targets_of_relative_relocations() {
        let file = [0; 1024];
        let loaded = vec![Segment { kind: 1, offset: 0, address: 0, in_file: 1024, in_memory: 1024 }];
        let image = Image { file: &file, loaded };
        let check = |words: &[u64]| {
            let table: Vec<_> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
            check_relative(&image, &table).map_or_else(|error| error.to_string(), |()| "accepted".into())
        };
        // 512, then the first and the last of the 63 words behind it: 520 and 1016.
        assert_eq!(check(&[512, 1 << 63 | 0b11]), "accepted");
        assert_eq!(check(&[520, 1 << 63 | 0b11]), "damaged: address of a relocation is 0x400");
        assert_eq!(check(&[512, 1, 0b11]), "damaged: address of a relocation is 0x400");
        assert_eq!(check(&[512, 0b1, 64, u64::MAX >> 1]), "accepted");
        assert_eq!(check(&[1018]), "damaged: address of a relocation is 0x3fa");
    }
}
