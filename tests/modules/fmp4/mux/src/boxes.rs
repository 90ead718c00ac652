//! The boxes: initialisation segment and fragment head.

use h264_reader::nal::sps::SeqParameterSet;
use h264_reader::nal::{Nal, RefNal};
use mp4_atom::esds::{DecoderConfig, DecoderSpecific, EsDescriptor, SLConfig};
use mp4_atom::{
    Atom, Audio, Avc1, Avcc, Codec, Dinf, Dref, DrefEntry, Encode, Esds, FixedPoint, FourCC, Ftyp, Hdlr,
    Mdhd, Mdia, Mfhd, Minf, Moof, Moov, Mp4a, Mvex, Mvhd, Smhd, Stbl, Stco, Stsd, Tfdt, Tfhd, Tkhd, Traf,
    Trak, Trex, Trun, TrunEntry, TrunSamples, Url, Visual, Vmhd,
};
use remuxd_plugin_api::RemuxError;

/// Timescale of every time in the file: milliseconds, as in tags.
const TIMESCALE: u32 = 1000;

/// The track IDs.
pub const VIDEO: u32 = 1;
pub const AUDIO: u32 = 2;

/// Sample flags (ISO/IEC 14496-12, 8.8.3.1): depends on no other; depends on others and is no sync sample.
const SYNC: u32 = 0x0200_0000;
const NO_SYNC: u32 = 0x0101_0000;

/// One access unit in a fragment.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    pub duration: u32,
    pub size: u32,
    pub composition_offset: i32,
    pub sync: bool,
}

/// The samples of one track in a fragment.
#[derive(Clone, Debug)]
pub struct Run {
    pub track: u32,
    pub decode_time: u64,
    pub entries: Vec<Entry>,
}

/// Returns `ftyp` and `moov` for these decoder configurations: an AVCDecoderConfigurationRecord, an AudioSpecificConfig.
pub fn initialisation(video: Option<&[u8]>, audio: Option<&[u8]>) -> Result<Vec<u8>, RemuxError> {
    let mut trak = Vec::new();
    if let Some(record) = video {
        trak.push(video_track(record)?);
    }
    if let Some(config) = audio {
        trak.push(audio_track(config)?);
    }
    let trex = trak.iter().map(|trak| Trex {
        track_id: trak.tkhd.track_id,
        default_sample_description_index: 1,
        ..Trex::default()
    });
    let mvex = Some(Mvex { mehd: None, trex: trex.collect() });
    let mvhd = Mvhd {
        timescale: TIMESCALE,
        next_track_id: AUDIO + 1,
        rate: 1.into(),
        volume: 1.into(),
        ..Mvhd::default()
    };
    let brands = [b"iso5", b"iso6", b"mp41"].map(FourCC::new).to_vec();
    let ftyp = Ftyp { major_brand: FourCC::new(b"iso5"), minor_version: 512, compatible_brands: brands };
    let mut bytes = encoded(&ftyp)?;
    bytes.extend(encoded(&Moov { mvhd, mvex, trak, ..Moov::default() })?);
    Ok(bytes)
}

/// Returns `moof` and the head of the `mdat` with the samples of `runs`, run by run.
pub fn fragment_head(sequence_number: u32, runs: &[Run]) -> Result<Vec<u8>, RemuxError> {
    let size = encoded(&moof(sequence_number, runs, 0))?.len();
    let mut bytes = encoded(&moof(sequence_number, runs, size + 8))?;
    let data: usize = runs.iter().flat_map(|run| &run.entries).map(|entry| entry.size as usize).sum();
    bytes.extend(((data + 8) as u32).to_be_bytes());
    bytes.extend(b"mdat");
    Ok(bytes)
}

fn moof(sequence_number: u32, runs: &[Run], mut data_offset: usize) -> Moof {
    let mut traf = Vec::new();
    for run in runs {
        let samples = run.entries.iter().map(|entry| TrunEntry {
            duration: Some(entry.duration),
            size: Some(entry.size),
            flags: Some(if entry.sync { SYNC } else { NO_SYNC }),
            cts: Some(entry.composition_offset.into()),
        });
        let samples = TrunSamples::Explicit(samples.collect());
        traf.push(Traf {
            tfhd: Tfhd { track_id: run.track, default_base_is_moof: true, ..Tfhd::default() },
            tfdt: Some(Tfdt { base_media_decode_time: run.decode_time }),
            trun: vec![Trun { data_offset: Some(data_offset as i32), samples }],
            ..Traf::default()
        });
        data_offset += run.entries.iter().map(|entry| entry.size as usize).sum::<usize>();
    }
    Moof { mfhd: Mfhd { sequence_number }, traf }
}

fn video_track(record: &[u8]) -> Result<Trak, RemuxError> {
    let broken = RemuxError::Malformed { what: "AVCDecoderConfigurationRecord", offset: 0 };
    let avcc = Avcc::decode_body(&mut &record[..]).map_err(|_| broken.clone())?;
    let sps = avcc.sequence_parameter_sets.first().ok_or(broken.clone())?;
    let sps =
        SeqParameterSet::from_bits(RefNal::new(sps, &[], true).rbsp_bits()).map_err(|_| broken.clone())?;
    let (width, height) = sps.pixel_dimensions().map_err(|_| broken)?;
    let visual =
        Visual { data_reference_index: 1, width: width as u16, height: height as u16, ..Visual::default() };
    let avc1 =
        Avc1 { visual, avcc, btrt: None, colr: None, pasp: None, taic: None, fiel: None, spatial: None };
    let mut trak = track(VIDEO, b"vide", Codec::Avc1(avc1));
    trak.tkhd.width = (width as u16).into();
    trak.tkhd.height = (height as u16).into();
    trak.mdia.minf.vmhd = Some(Vmhd::default());
    Ok(trak)
}

fn audio_track(config: &[u8]) -> Result<Trak, RemuxError> {
    let raw = config.to_vec();
    let dec_config = DecoderConfig {
        object_type_indication: 0x40, // Audio ISO/IEC 14496-3
        stream_type: 5,               // AudioStream
        dec_specific: Some(DecoderSpecific { raw, ..DecoderSpecific::default() }),
        ..DecoderConfig::default()
    };
    let es_desc =
        EsDescriptor { es_id: AUDIO as u16, dec_config, sl_config: SLConfig {}, ..EsDescriptor::default() };
    // Decoders take rate and channels from the AudioSpecificConfig.
    let audio = Audio {
        data_reference_index: 1,
        channel_count: 2,
        sample_size: 16,
        sample_rate: FixedPoint::new(44_100, 0),
    };
    let mut trak =
        track(AUDIO, b"soun", Codec::Mp4a(Mp4a { audio, esds: Esds { es_desc }, btrt: None, taic: None }));
    trak.tkhd.volume = 1.into();
    trak.mdia.minf.smhd = Some(Smhd::default());
    Ok(trak)
}

fn track(track_id: u32, handler: &[u8; 4], codec: Codec) -> Trak {
    let stbl = Stbl { stsd: Stsd { codecs: vec![codec] }, stco: Some(Stco::default()), ..Stbl::default() };
    let dinf = Dinf { dref: Dref { entries: vec![DrefEntry::Url(Url::default())] } };
    Trak {
        tkhd: Tkhd { track_id, enabled: true, in_movie: true, ..Tkhd::default() },
        mdia: Mdia {
            mdhd: Mdhd { timescale: TIMESCALE, language: "und".into(), ..Mdhd::default() },
            hdlr: Hdlr { handler: FourCC::new(handler), name: String::new() },
            minf: Minf { dinf, stbl, ..Minf::default() },
        },
        ..Trak::default()
    }
}

fn encoded(atom: &impl Encode) -> Result<Vec<u8>, RemuxError> {
    let mut bytes = Vec::new();
    atom.encode(&mut bytes).map_err(|error| RemuxError::Other(error.to_string()))?;
    Ok(bytes)
}
