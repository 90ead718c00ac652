use super::*;

/// Returns fields, given as width and value, as bytes.
fn bits(fields: &[(usize, u32)]) -> Vec<u8> {
    let mut writer = BitWriter::default();
    for (width, value) in fields {
        writer.write(*width, *value);
    }
    writer.into_bytes()
}

fn parse(config: &[u8]) -> AudioSpecificConfig {
    AudioSpecificConfig::parse(config).unwrap()
}

/// Returns profile, rate index, channel configuration and frame length of a header.
fn fields(header: &[u8]) -> (u8, u8, u8, usize) {
    assert_eq!((header[0], header[1]), (0xff, 0xf1));
    assert_eq!((header[5] & 0x1f, header[6]), (0x1f, 0xfc), "variable rate, one block");
    let length = usize::from(header[3] & 3) << 11 | usize::from(header[4]) << 3 | usize::from(header[5] >> 5);
    (header[2] >> 6, header[2] >> 2 & 0xf, (header[2] & 1) << 2 | header[3] >> 6, length)
}

/// Returns a configuration with a program_config_element of two front channels and this comment.
fn pce_config(comment: &[u8]) -> Vec<u8> {
    let mut fields = vec![(5, 2), (4, 4), (4, 0), (3, 0)];
    fields.extend(PCE);
    let mut config = bits(&fields);
    config.push(comment.len() as u8);
    config.extend(comment);
    config
}

/// Instance 0, AAC LC, 44.1 kHz, one channel pair in front.
const PCE: [(usize, u32); 14] = [
    (4, 0),
    (2, 1),
    (4, 4),
    (4, 1),
    (4, 0),
    (4, 0),
    (2, 0),
    (3, 0),
    (4, 0),
    (1, 0),
    (1, 0),
    (1, 0),
    (1, 1),
    (4, 0),
];

#[test]
fn reads_each_form_of_configuration() {
    // Object type, rate, channels, SBR's rate, PS.
    for (name, config, expected) in [
        ("LC 44.1 kHz stereo", vec![0x12, 0x10], (2, 44_100, 2, None, false)),
        ("Main 96 kHz mono", vec![0x08, 0x08], (1, 96_000, 1, None, false)),
        ("LC 7350 Hz", vec![0x16, 0x10], (2, 7_350, 2, None, false)),
        ("LC 7.1", vec![0x11, 0xb8], (2, 48_000, 7, None, false)),
        (
            "LC of an explicit rate",
            bits(&[(5, 2), (4, 15), (24, 44_056), (4, 2), (3, 0)]),
            (2, 44_056, 2, None, false),
        ),
        (
            "HE-AAC explicit",
            bits(&[(5, 5), (4, 7), (4, 2), (4, 4), (5, 2), (3, 0)]),
            (2, 22_050, 2, Some(44_100), false),
        ),
        (
            "HE-AAC of an explicit rate",
            bits(&[(5, 5), (4, 6), (4, 2), (4, 15), (24, 48_000), (5, 2), (3, 0)]),
            (2, 24_000, 2, Some(48_000), false),
        ),
        (
            "HE-AACv2 explicit",
            bits(&[(5, 29), (4, 7), (4, 1), (4, 4), (5, 2), (3, 0)]),
            (2, 22_050, 1, Some(44_100), true),
        ),
        ("HE-AAC compatible", vec![0x13, 0x90, 0x56, 0xe5, 0xa0], (2, 22_050, 2, Some(44_100), false)),
        (
            "HE-AACv2 compatible",
            vec![0x13, 0x88, 0x56, 0xe5, 0xa5, 0x48, 0x80],
            (2, 22_050, 1, Some(44_100), true),
        ),
        (
            "SBR known to be absent",
            bits(&[(5, 2), (4, 7), (4, 2), (3, 0), (11, 0x2b7), (5, 5), (1, 0)]),
            (2, 22_050, 2, None, false),
        ),
        ("padding", vec![0x12, 0x10, 0, 0, 0, 0], (2, 44_100, 2, None, false)),
        ("a truncated extension", vec![0x13, 0x90, 0x56, 0xe5], (2, 22_050, 2, None, false)),
        (
            "LC with a core coder",
            bits(&[(5, 2), (4, 4), (4, 2), (2, 1), (14, 9), (1, 0)]),
            (2, 44_100, 2, None, false),
        ),
        ("an escaped object type", bits(&[(5, 31), (6, 10), (4, 3), (4, 2)]), (42, 48_000, 2, None, false)),
    ] {
        let config = parse(&config);
        let AudioSpecificConfig { object_type, sample_rate, channel_configuration, sbr, ps, .. } = config;
        assert_eq!((object_type, sample_rate, channel_configuration, sbr, ps), expected, "{name}");
    }
}

#[test]
fn the_adts_header_describes_the_core() {
    for (name, config, expected) in [
        ("LC", vec![0x12, 0x10], (1, 4, 2, 107)),
        ("Main", vec![0x08, 0x08], (0, 0, 1, 107)),
        ("HE-AAC", bits(&[(5, 5), (4, 7), (4, 2), (4, 4), (5, 2), (3, 0)]), (1, 7, 2, 107)),
        ("HE-AACv2", vec![0x13, 0x88, 0x56, 0xe5, 0xa5, 0x48, 0x80], (1, 7, 1, 107)),
        ("48 kHz, explicit", bits(&[(5, 2), (4, 15), (24, 48_000), (4, 2), (3, 0)]), (1, 3, 2, 107)),
        ("44.1 kHz for NTSC", bits(&[(5, 2), (4, 15), (24, 44_056), (4, 2), (3, 0)]), (1, 4, 2, 107)),
        ("7.1", vec![0x11, 0xb8], (1, 3, 7, 107)),
    ] {
        assert_eq!(fields(&parse(&config).adts_header(100).unwrap()), expected, "{name}");
    }
}

#[test]
fn refuses_configurations_that_adts_cannot_carry() {
    let lc = |rest: &[(usize, u32)]| parse(&bits(&[&[(5, 2)], rest].concat()));
    for (config, len, error) in [
        (parse(&[0x12, 0x10]), 8_185, Error::FrameTooLong { len: 8_185 }),
        (lc(&[(4, 3), (4, 2), (1, 1), (2, 0)]), 1, Error::ShortFrames),
        (lc(&[(4, 3), (4, 12), (3, 0)]), 1, Error::ChannelConfiguration { configuration: 12 }),
        (lc(&[(4, 15), (24, 40_000), (4, 2), (3, 0)]), 1, Error::Rate { rate: 40_000 }),
        (lc(&[(4, 15), (24, 0), (4, 2), (3, 0)]), 1, Error::Rate { rate: 0 }),
        (parse(&bits(&[(5, 31), (6, 7), (4, 3), (4, 2), (3, 0)])), 1, Error::ObjectType { object_type: 39 }),
    ] {
        assert_eq!(config.adts_header(len), Err(error));
    }
    assert_eq!(fields(&parse(&[0x12, 0x10]).adts_header(8_184).unwrap()).3, 8_191);
}

#[test]
fn carries_the_program_config_in_the_frame() {
    for comment in [&b""[..], b"two in front"] {
        let config = parse(&pce_config(comment));
        let prefix = config.adts_prefix(b"\x20frame").unwrap();
        let mut element = bits(&[&[(3, u32::from(ID_PCE))], &PCE[..]].concat());
        element.push(comment.len() as u8);
        element.extend(comment);
        assert_eq!(prefix[ADTS_HEADER_LEN..], element);
        assert_eq!(fields(&prefix[..ADTS_HEADER_LEN]), (1, 4, 0, ADTS_HEADER_LEN + element.len() + 6));
        let has_one = config.adts_prefix(b"\xa0frame").unwrap();
        assert_eq!(fields(&has_one), (1, 4, 0, ADTS_HEADER_LEN + 6));
    }
    assert_eq!(parse(&[0x12, 0x10]).adts_prefix(b"\x20frame").unwrap().len(), ADTS_HEADER_LEN);
}

#[test]
fn refuses_truncated_and_reserved_configurations_and_never_panics() {
    let pce = pce_config(b"comment");
    for config in
        [&pce[..], &[0x12, 0x10], &bits(&[(5, 29), (4, 7), (4, 1), (4, 15), (24, 44_100), (5, 2), (3, 0)])]
    {
        for end in 0..config.len() {
            assert_eq!(AudioSpecificConfig::parse(&config[..end]), Err(Error::Truncated { len: end }));
        }
        for at in 0..config.len() {
            for value in 0..=255 {
                let mut config = config.to_vec();
                config[at] = value;
                let _ = AudioSpecificConfig::parse(&config).map(|config| config.adts_prefix(b"frame"));
            }
        }
    }
    for index in [13, 14] {
        let config = bits(&[(5, 2), (4, index), (4, 2), (3, 0)]);
        assert_eq!(AudioSpecificConfig::parse(&config), Err(Error::FrequencyIndex { index }));
    }
}
