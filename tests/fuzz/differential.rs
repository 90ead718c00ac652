//! Streams of many shapes that our readers and writers and those of FFmpeg must understand alike.
//!
//! `differential [COUNT [SEED]]`; see `differential` beside this file. Each of COUNT batches is one stream of random tags. It is
//! written to an FLV file by the test kit, and remuxed by the modules `flv`, `ts`, `aac` and `mp3`. FFmpeg's demuxers read these
//! files, without its parsers, and must find the packets that our readers find: the same times, lengths and bytes. FLV's metadata
//! is read by the AMF0 reader of the modules. Exits 1 at a difference, and leaves its file.
//!
//! Known differences, which the comparison leaves out:
//! - FFmpeg's FLV demuxer drops messages without data;
//! - it stores strings of metadata up to 1023 bytes, numbers without their fraction, and dates as calendar dates;
//! - FFmpeg 9 is compared through its command line, which changes decoding times, and presentation times before them. It writes
//!   nothing if it cannot tell the size of the pictures or the rate of the audio, which are random, from what it decodes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use remuxd::testing::conf::Config;
use remuxd::testing::media::{Millis, Tag as HostTag, TagKind};
use remuxd::testing::module::{ModuleFault, OutBlock, Registry, Setup};
use remuxd_bitstream::amf0::{Budget, Value, read_all, write};
use remuxd_bitstream::flv::read_file;
use remuxd_tests::audio::read_adts;
use remuxd_tests::flv::{AUDIO, Header, Reader, SCRIPT, Tag, VIDEO, write as write_flv};
use remuxd_tests::host::executable;
use remuxd_tests::publisher::Numbered;
use remuxd_tests::tool::{Ffmpeg, run, target_dir};
use remuxd_tests::ts::Stream;

/// Media tags of a batch.
const TAGS: usize = 1500;

/// Entries of the metadata of a batch.
const ENTRIES: usize = 200;

/// A unit that a demuxer returns: presentation and decoding time in the units of the format, length, and Adler-32.
type Unit = (i64, i64, usize, u32);

/// The units of each elementary stream, in order. The key begins with the medium.
type Units = BTreeMap<String, Vec<Unit>>;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<u64>().ok());
    let (count, seed) = (arguments.next().unwrap_or(Some(1)), arguments.next().unwrap_or(Some(1)));
    let (Some(count), Some(seed)) = (count, seed) else {
        eprintln!("differential [COUNT [SEED]]");
        return ExitCode::from(2);
    };
    let dir = target_dir().join("differential");
    let registry = modules();
    let mut compared = 0;
    for seed in seed..seed + count {
        let result = std::fs::create_dir_all(&dir)
            .map_err(|error| error.to_string())
            .and_then(|()| batch(&registry, &dir, seed, &mut compared));
        if let Err(difference) = result {
            eprintln!("seed {seed}, files in {}: {difference}", dir.display());
            return ExitCode::FAILURE;
        }
    }
    println!("{compared} units in {count} batches, no difference");
    ExitCode::SUCCESS
}

fn modules() -> Registry {
    let config =
        Config::parse("[modules]\nload = [\"flv\", \"ts\", \"aac\", \"mp3\"]\n", "differential.toml");
    let program = executable();
    let beside = program.parent().unwrap_or(Path::new("."));
    let (registry, failures) = Registry::load(&config.expect("a valid config").modules, beside, &program);
    assert!(failures.is_empty(), "{}", failures[0]);
    registry
}

/// Compares one stream; adds the number of units to `compared`.
fn batch(registry: &Registry, dir: &Path, seed: u64, compared: &mut usize) -> Result<(), String> {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let is_mp3 = random.below(4) == 0;
    let (tags, metadata) = stream(&mut random, is_mp3);
    let file = write_flv(Header { audio: true, video: true }, &tags);
    let path = save(dir, "published.flv", &file)?;
    same_tags(&file, &tags)?;
    same_metadata(&path, &metadata)?;
    *compared += metadata.len() + compare("published.flv", &path, flv_units(&file)?, "flv")?;

    let served = remux(registry, "flv", &tags)?;
    let path = save(dir, "served.flv", &served)?;
    *compared += compare("served.flv", &path, flv_units(&served)?, "flv")?;

    let served = remux(registry, "ts", &tags)?;
    let path = save(dir, "served.ts", &served)?;
    *compared += compare("served.ts", &path, ts_units(&served)?, "mpegts")?;

    if !is_mp3 {
        let served = remux(registry, "aac", &tags)?;
        let path = save(dir, "served.aac", &served)?;
        *compared += compare_adts(&path, &served)?;
    }
    Ok(())
}

/// Returns a stream that begins with metadata and sequence headers, and the entries of its metadata.
fn stream(random: &mut Random, is_mp3: bool) -> (Vec<Tag>, Vec<(String, Value)>) {
    let entries: Vec<_> = (0..ENTRIES).map(|number| (format!("entry{number}"), random.value(0))).collect();
    let mut body = Vec::new();
    write(&Value::String("onMetaData".into()), &mut body);
    let size =
        [("width", 160.0), ("height", 120.0)].map(|(name, size)| (name.to_owned(), Value::Number(size)));
    write(&Value::EcmaArray([&entries[..], &size].concat()), &mut body);
    let mut tags = vec![Tag { kind: SCRIPT, timestamp: 0, payload: body }];
    let headers = Numbered::new(16).headers();
    tags.extend(headers.into_iter().filter(|tag| tag.kind == VIDEO || tag.kind == AUDIO && !is_mp3));
    // Before and after the bounds of 24 and of 31 bits.
    let mut time = [0, 1, 0x00ff_ff00, 0x7fff_f000][random.below(4)] + random.below(1000) as u32;
    for tag in &mut tags[1..] {
        tag.timestamp = time;
    }
    for number in 0..TAGS {
        time += match random.below(50) {
            0 => random.below(3000) as u32,
            1..20 => 0,
            _ => random.below(60) as u32,
        };
        let is_video = random.below(3) == 0;
        let payload = match (is_video, is_mp3) {
            (true, _) => random.picture(number == 0),
            (false, true) => random.mp3(),
            (false, false) => [b"\xaf\x01".to_vec(), random.bytes(2000)].concat(),
        };
        tags.push(Tag { kind: if is_video { VIDEO } else { AUDIO }, timestamp: time, payload });
    }
    (tags, entries)
}

/// Returns what a module makes of a stream.
fn remux(registry: &Registry, name: &str, tags: &[Tag]) -> Result<Vec<u8>, String> {
    let module = registry.named(name).ok_or("no such module")?;
    let fault = |fault: ModuleFault| format!("{name}: {fault}");
    let mut remuxer = module.remuxer(&Setup::default()).map_err(fault)?;
    let (mut blocks, mut file) = (Vec::<OutBlock>::new(), Vec::new());
    for tag in tags {
        let kind = match tag.kind {
            AUDIO => TagKind::AUDIO,
            VIDEO => TagKind::VIDEO,
            _ => TagKind::SCRIPT,
        };
        let tag = HostTag::new(kind, Millis(tag.timestamp.into()), tag.payload.clone().into());
        remuxer.tag(&tag, &mut blocks).map_err(fault)?;
    }
    remuxer.finish(&mut blocks).map_err(fault)?;
    blocks.iter().flat_map(|block| &block.parts).for_each(|part| file.extend_from_slice(part));
    Ok(file)
}

/// Compares the FLV readers of the test kit and of the modules with what was written.
fn same_tags(file: &[u8], tags: &[Tag]) -> Result<(), String> {
    let mut reader = Reader::default();
    reader.push(file)?;
    let read: Result<Vec<_>, _> = read_file(file).collect();
    let read = read.map_err(|error| error.to_string())?;
    let read = read.iter().map(|tag| (tag.timestamp, tag.body));
    let same = read.eq(tags.iter().map(|tag| (tag.timestamp, &tag.payload[..])));
    if same && reader.take() == tags {
        Ok(())
    } else {
        Err("our readers differ from what was written".into())
    }
}

/// Compares metadata as our AMF0 reader reads them with FFmpeg's.
fn same_metadata(path: &Path, written: &[(String, Value)]) -> Result<(), String> {
    let mut body = Vec::new();
    write(&Value::EcmaArray(written.to_vec()), &mut body);
    let read = read_all(&body, &mut Budget::default()).map_err(|error| error.to_string())?;
    let entries = read.first().and_then(Value::properties).ok_or("no metadata")?;
    let mut ours = BTreeMap::new();
    entries.iter().for_each(|(name, value)| flatten(name, value, &mut ours));
    let mut command = Command::new("ffprobe");
    command.args(["-loglevel", "error", "-show_entries", "format_tags", "-of", "json"]).arg(path);
    let output = run(&mut command)?.stdout;
    let output: serde_json::Value = serde_json::from_slice(&output).map_err(|error| error.to_string())?;
    let tags = output["format"]["tags"].as_object().cloned().unwrap_or_default();
    let theirs: BTreeMap<String, String> =
        tags.iter().filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect();
    for name in ours.keys().chain(theirs.keys()).filter(|name| name.starts_with("entry")) {
        let (ours, theirs) = (ours.get(name), theirs.get(name));
        let same = match (ours, theirs) {
            (Some(None), Some(_)) => true,
            (Some(Some(ours)), Some(theirs)) => ours == theirs,
            _ => false,
        };
        if !same {
            return Err(format!("metadata {name}: {ours:?}, FFmpeg: {theirs:?}"));
        }
    }
    Ok(())
}

/// Adds a value, and those in it, as FFmpeg shows them; a date without its text.
fn flatten(name: &str, value: &Value, all: &mut BTreeMap<String, Option<String>>) {
    let shown = match value {
        Value::Number(number) => Some(format!("{number:.0}")),
        Value::Boolean(is_set) => Some(is_set.to_string()),
        Value::String(text) => Some(text.clone()),
        Value::Date { .. } => None,
        Value::Object(entries) | Value::EcmaArray(entries) => {
            return entries.iter().for_each(|(name, value)| flatten(name, value, all));
        }
        _ => return,
    };
    all.insert(name.to_owned(), shown);
}

/// Returns the access units of an FLV file, as the test kit reads it.
fn flv_units(file: &[u8]) -> Result<Units, String> {
    let mut reader = Reader::default();
    reader.push(file)?;
    let mut units = Units::new();
    for tag in reader.take() {
        let Some(unit) = tag.access_unit().filter(|unit| unit.size > 0) else { continue };
        let data = &tag.payload[tag.payload.len() - unit.size..];
        let medium = if tag.kind == VIDEO { "video" } else { "audio" };
        let unit = (unit.dts + i64::from(unit.cts), unit.dts, unit.size, adler(data));
        units.entry(medium.into()).or_default().push(unit);
    }
    Ok(units)
}

/// Returns the PES packets of a transport stream, as the test kit reads it.
fn ts_units(file: &[u8]) -> Result<Units, String> {
    let stream = Stream::read(file);
    if !stream.strays.is_empty() || stream.rest > 0 {
        return Err(format!("{:?}, {} bytes left", stream.strays.first(), stream.rest));
    }
    let mut units = Units::new();
    for unit in &stream.units {
        let medium = if unit.stream_type == 0x1b { "video" } else { "audio" };
        let unit = (unit.pts, unit.dts, unit.payload.len(), adler(&unit.payload));
        units.entry(medium.into()).or_default().push(unit);
    }
    Ok(units)
}

/// Compares our units with those of both versions of FFmpeg. Returns their number.
fn compare(name: &str, path: &Path, ours: Units, format: &str) -> Result<usize, String> {
    let theirs = ffprobe(path, format)?;
    differ(name, "FFmpeg 5.1", &ours, &theirs)?;
    if std::env::var_os("REMUXD_FFMPEG9").is_some()
        && let Some(mut theirs) = framehash(path, format)?
    {
        let mut ours = ours.clone();
        for (medium, ours) in &mut ours {
            let theirs = theirs.get_mut(medium).into_iter().flatten();
            for (ours, theirs) in ours.iter_mut().zip(theirs) {
                theirs.1 = ours.1;
                if ours.0 < ours.1 {
                    theirs.0 = ours.0;
                }
            }
        }
        differ(name, "FFmpeg 9", &ours, &theirs)?;
    }
    Ok(ours.values().map(Vec::len).sum())
}

fn compare_adts(path: &Path, file: &[u8]) -> Result<usize, String> {
    let (mut at, mut ours) = (0, Vec::new());
    for frame in read_adts(file) {
        let size = 7 + frame.data.len();
        ours.push((0, 0, size, adler(&file[at..at + size])));
        at += size;
    }
    let theirs = ffprobe(path, "aac")?.remove("audio").unwrap_or_default();
    let theirs: Vec<_> = theirs.iter().map(|unit| (0, 0, unit.2, unit.3)).collect();
    let units = |units| Units::from([("audio".to_owned(), units)]);
    let count = ours.len();
    differ("served.aac", "FFmpeg 5.1", &units(ours), &units(theirs))?;
    Ok(count)
}

fn differ(name: &str, version: &str, ours: &Units, theirs: &Units) -> Result<(), String> {
    for medium in ["video", "audio"] {
        let [ours, theirs] = [ours, theirs].map(|units| units.get(medium).map_or(&[][..], Vec::as_slice));
        if let Some(at) = (0..ours.len().max(theirs.len())).find(|at| ours.get(*at) != theirs.get(*at)) {
            return Err(format!(
                "{name}, {medium} {at} of {} and {}: {:?}, {version}: {:?}",
                ours.len(),
                theirs.len(),
                ours.get(at),
                theirs.get(at)
            ));
        }
    }
    Ok(())
}

/// Returns the packets of FFmpeg 5.1's demuxer, without parsers.
fn ffprobe(path: &Path, format: &str) -> Result<Units, String> {
    let mut command = Command::new("ffprobe");
    command.args(["-loglevel", "quiet", "-fflags", "+nofillin+noparse", "-f", format, "-show_packets"]);
    command.args(["-show_data_hash", "adler32", "-of", "json"]).arg(path);
    let output: serde_json::Value =
        serde_json::from_slice(&run(&mut command)?.stdout).map_err(|error| error.to_string())?;
    let mut units = Units::new();
    for packet in output["packets"].as_array().into_iter().flatten() {
        let text = |name: &str| packet[name].as_str().unwrap_or_default();
        let time = |name: &str| packet[name].as_i64().unwrap_or(i64::MIN);
        let hash = text("data_hash").trim_start_matches("adler32:");
        let hash = u32::from_str_radix(hash, 16).map_err(|error| format!("{packet}: {error}"))?;
        let size = text("size").parse().map_err(|error| format!("{packet}: {error}"))?;
        units.entry(text("codec_type").into()).or_default().push((time("pts"), time("dts"), size, hash));
    }
    Ok(units)
}

/// Returns the packets of FFmpeg 9's demuxer, without parsers; `None` if it writes nothing.
fn framehash(path: &Path, format: &str) -> Result<Option<Units>, String> {
    let mut command = Ffmpeg::Nine.command();
    command
        .args(["-loglevel", "quiet", "-fflags", "+nofillin+noparse", "-copyts", "-f", format, "-i"])
        .arg(path);
    command.args(["-map", "0", "-c", "copy", "-copyinkf", "-f", "framehash", "-hash", "adler32", "-"]);
    let output = command.output().map_err(|error| error.to_string())?.stdout;
    if output.is_empty() {
        return Ok(None);
    }
    let (mut media, mut units) = (BTreeMap::new(), Units::new());
    for line in String::from_utf8_lossy(&output).lines() {
        if let Some((number, medium)) =
            line.strip_prefix("#media_type ").and_then(|rest| rest.split_once(": "))
        {
            media.insert(number.to_owned(), medium.to_owned());
            continue;
        }
        let fields: Vec<_> = line.split(',').map(str::trim).collect();
        let [stream, dts, pts, _, size, hash, ..] = fields[..] else { continue };
        let Some(medium) = media.get(stream) else { continue };
        let parsed = (|| Some((pts.parse().ok()?, dts.parse().ok()?, size.parse().ok()?)))();
        let ((pts, dts, size), Ok(hash)) = (parsed.ok_or(line)?, u32::from_str_radix(hash, 16)) else {
            return Err(line.to_owned());
        };
        units.entry(medium.clone()).or_default().push((pts, dts, size, hash));
    }
    Ok(Some(units))
}

fn save(dir: &Path, name: &str, bytes: &[u8]) -> Result<PathBuf, String> {
    let path = dir.join(name);
    std::fs::write(&path, bytes).map_err(|error| error.to_string())?;
    Ok(path)
}

/// Returns the Adler-32 of bytes as FFmpeg computes it, whose sums begin with 0 instead of 1 (RFC 1950, 9).
fn adler(bytes: &[u8]) -> u32 {
    let (mut a, mut b) = (1_u32, 0_u32);
    for byte in bytes {
        a = (a + u32::from(*byte)) % 65521;
        b = (b + a) % 65521;
    }
    b << 16 | a
}

/// A generator of pseudo-random values (xorshift).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 16) as usize % bound
    }

    /// Returns 1 to `most` bytes, mostly few.
    fn bytes(&mut self, most: usize) -> Vec<u8> {
        let most = [4, 40, 400, most][self.below(4)].min(most);
        (0..1 + self.below(most)).map(|_| self.next() as u8).collect()
    }

    /// Returns the body of a picture: NAL units of H.264 with lengths of four bytes.
    fn picture(&mut self, is_keyframe: bool) -> Vec<u8> {
        let is_keyframe = is_keyframe || self.below(12) == 0;
        let cts = [0, 0, 1, 40, 400, -40_i32][self.below(6)];
        let mut body = vec![if is_keyframe { 0x17 } else { 0x27 }, 1];
        body.extend_from_slice(&cts.to_be_bytes()[1..]);
        for number in 0..1 + self.below(4) {
            // Supplemental information first, then slices.
            let kind = if number == 0 && self.below(3) == 0 {
                6
            } else if is_keyframe {
                0x65
            } else {
                0x41
            };
            // No start code, and none of its parts, is in a NAL unit (7.4.1).
            let data: Vec<u8> = self.bytes(3000).into_iter().map(|byte| byte | 4).collect();
            body.extend_from_slice(&(1 + data.len() as u32).to_be_bytes());
            body.push(kind);
            body.extend_from_slice(&data);
        }
        body
    }

    /// Returns the body of a frame of MPEG-1 layer III, 128 kbit/s at 44.1 kHz.
    fn mp3(&mut self) -> Vec<u8> {
        let data = (4..417).map(|_| self.next() as u8);
        b"\x2f\xff\xfb\x90\x00".iter().copied().chain(data).collect()
    }

    fn value(&mut self, depth: usize) -> Value {
        match self.below(if depth < 3 { 9 } else { 5 }) {
            0 => Value::Number(f64::from(self.next() as i32)),
            1 => Value::Number(self.next() as f64 / 3.0),
            2 => Value::Boolean(self.below(2) == 0),
            3 => Value::String(self.text()),
            4 => [Value::Null, Value::Undefined][self.below(2)].clone(),
            5 => Value::Date { millis: self.below(1 << 40) as f64, zone: 0 },
            6 => Value::StrictArray((0..self.below(4)).map(|_| Value::Null).collect()),
            7 => Value::Object(self.entries(depth)),
            _ => Value::EcmaArray(self.entries(depth)),
        }
    }

    fn entries(&mut self, depth: usize) -> Vec<(String, Value)> {
        (0..self.below(4)).map(|_| (format!("entry{}", self.next()), self.value(depth + 1))).collect()
    }

    fn text(&mut self) -> String {
        let most = [3, 30, 1000][self.below(3)];
        let letters = ['a', 'Z', '0', ' ', '=', '\\', '"', '\n', 'é', '漢'];
        let mut text: String =
            (0..1 + self.below(most)).map(|_| letters[self.below(letters.len())]).collect();
        while text.len() > 1023 {
            text.pop();
        }
        text
    }
}
