use super::*;

#[track_caller]
fn read<T>(kind: impl Kind<T>, toml: &str) -> Result<T, ValueError> {
    kind(&DeValue::parse(toml).unwrap()).map_err(|faults| faults[0].get_ref().clone())
}

#[test]
fn durations_are_seconds_or_strings_with_units() {
    let (min, max) = (Duration::from_millis(40), Duration::from_secs(3600));
    let out = |value| Err(ValueError::DurationOutOfRange { value, min, max });
    let rows: &[(&str, Result<u64, ValueError>)] = &[
        ("10", Ok(10_000)),
        ("0.5", Ok(500)),
        ("\"40ms\"", Ok(40)),
        ("\"10s\"", Ok(10_000)),
        ("\"1m 30s\"", Ok(90_000)),
        ("\"1h\"", Ok(3_600_000)),
        ("5000", out(Duration::from_secs(5000))),
        ("0", out(Duration::ZERO)),
        ("\"39ms\"", out(Duration::from_millis(39))),
        ("-1", Err(ValueError::NotADuration)),
        ("nan", Err(ValueError::NotADuration)),
        ("1e300", Err(ValueError::NotADuration)),
        ("\"-1s\"", Err(ValueError::NotADuration)),
        ("\"10\"", Err(ValueError::NotADuration)),
        ("\"soon\"", Err(ValueError::NotADuration)),
        ("true", Err(ValueError::WrongType { expected: "a duration", found: BOOLEAN })),
    ];
    for (toml, expected) in rows {
        assert_eq!(read(duration(min..=max), toml).map(|d| d.as_millis() as u64), *expected, "{toml}");
    }
}

#[test]
fn sizes_are_bytes_or_strings_with_units() {
    let range = || size(1_u32..=16 << 20);
    let out = Err(ValueError::OutOfRange { min: 1, max: 16 << 20 });
    let rows: &[(&str, Result<u32, ValueError>)] = &[
        ("1", Ok(1)),
        ("65_536", Ok(65536)),
        ("0x10", Ok(16)),
        ("\"64KiB\"", Ok(65536)),
        ("\"16 MiB\"", Ok(16 << 20)),
        ("\"100\"", Ok(100)),
        ("0", out.clone()),
        ("-5", out.clone()),
        ("\"17MiB\"", out.clone()),
        ("9223372036854775807", out.clone()),
        ("\"18446744073709551615GiB\"", out),
        ("\"1MB\"", Err(ValueError::NotASize)),
        ("\"MiB\"", Err(ValueError::NotASize)),
        ("1.5", Err(ValueError::WrongType { expected: "a size", found: "a number with a point" })),
    ];
    for (toml, expected) in rows {
        assert_eq!(read(range(), toml), *expected, "{toml}");
    }
}

#[test]
fn shares_are_percentages_of_the_memory() {
    let limit = || memory_limit(64..=1 << 30);
    let rows: &[(&str, Result<MemoryLimit, ValueError>)] = &[
        ("\"1GiB\"", Ok(MemoryLimit::Bytes(1 << 30))),
        ("100", Ok(MemoryLimit::Bytes(100))),
        ("\"50%\"", Ok(MemoryLimit::Percent(50))),
        ("\"100 %\"", Ok(MemoryLimit::Percent(100))),
        ("\"0%\"", Err(ValueError::OutOfRange { min: 1, max: 100 })),
        ("\"101%\"", Err(ValueError::OutOfRange { min: 1, max: 100 })),
        ("\"a%\"", Err(ValueError::NotASize)),
        ("63", Err(ValueError::OutOfRange { min: 64, max: 1 << 30 })),
    ];
    for (toml, expected) in rows {
        assert_eq!(read(limit(), toml), *expected, "{toml}");
    }
    assert_eq!(MemoryLimit::Percent(50).of(24 << 30), 12 << 30);
    assert_eq!(MemoryLimit::Bytes(7).of(1), 7);
}

#[test]
fn bitrates_are_bits_or_strings_with_units() {
    let out = Err(ValueError::OutOfRange { min: 0, max: 1_000_000_000_000 });
    let rows: &[(&str, Result<u64, ValueError>)] = &[
        ("0", Ok(0)),
        ("6000000", Ok(6_000_000)),
        ("\"6M\"", Ok(6_000_000)),
        ("\"2.5M\"", Ok(2_500_000)),
        ("\"800 k\"", Ok(800_000)),
        ("\"1G\"", Ok(1_000_000_000)),
        ("\"64000\"", Ok(64_000)),
        ("-1", out.clone()),
        ("\"1001G\"", out),
        ("\"6Mbit\"", Err(ValueError::NotABitrate)),
        ("\"6m\"", Err(ValueError::NotABitrate)),
        ("\"M\"", Err(ValueError::NotABitrate)),
        ("\"\"", Err(ValueError::NotABitrate)),
        ("\"1.2.3M\"", Err(ValueError::NotABitrate)),
    ];
    for (toml, expected) in rows {
        assert_eq!(read(bitrate, toml), *expected, "{toml}");
    }
}

#[test]
fn addresses_are_a_port_with_or_without_an_ip() {
    for (toml, expected) in [
        ("8080", "0.0.0.0:8080"),
        ("0", "0.0.0.0:0"),
        ("\"8080\"", "0.0.0.0:8080"),
        ("\"127.0.0.1:8080\"", "127.0.0.1:8080"),
        ("\"[::]:8080\"", "[::]:8080"),
    ] {
        assert_eq!(read(listen, toml), Ok(expected.parse().unwrap()), "{toml}");
    }
    for toml in ["65536", "-1", "\"\"", "\":8080\"", "\"localhost:8080\"", "\"127.0.0.1\"", "\"::1:80\""] {
        assert_eq!(read(listen, toml), Err(ValueError::NotAnAddress), "{toml}");
    }
}

#[test]
fn networks_are_cidr_blocks_or_addresses() {
    for (toml, expected) in [
        ("\"10.0.0.0/8\"", "10.0.0.0/8"),
        ("\"127.0.0.1\"", "127.0.0.1/32"),
        ("\"fd00::/8\"", "fd00::/8"),
        ("\"::1\"", "::1/128"),
    ] {
        assert_eq!(read(network, toml), Ok(expected.parse().unwrap()), "{toml}");
    }
    for toml in ["\"10.0.0.0/33\"", "\"localhost\"", "\"[::1]\"", "\"10.0.0.0:80\"", "\"\""] {
        assert_eq!(read(network, toml), Err(ValueError::NotANetwork), "{toml}");
    }
    assert!(read(network, "10").is_err());
}

#[test]
fn directives_name_levels() {
    for good in ["info", "WARN", "info,remuxd::rtmp=debug", "off,remuxd=trace"] {
        assert_eq!(read(directives, &format!("{good:?}")), Ok(good.to_owned()));
    }
    let filter = ValueError::NotAFilter { directives: "a::[{=info".to_owned() };
    assert_eq!(read(directives, "\"a::[{=info\""), Err(filter));
    for (bad, directive) in [("inof", "inof"), ("info,remuxd", "remuxd"), ("info,a=b", "a=b"), ("", "")] {
        let error = ValueError::NotALevel { directive: directive.to_owned() };
        assert_eq!(read(directives, &format!("{bad:?}")), Err(error));
    }
}

#[test]
fn lists_report_every_faulty_element() {
    let faults = list(listen)(&DeValue::parse("[1, 99999, \"x\"]").unwrap()).unwrap_err();
    assert_eq!(faults.iter().map(Spanned::span).collect::<Vec<_>>(), [4..9, 11..14]);
    assert_eq!(read(some(list(text)), "[]"), Err(ValueError::Empty));
}

#[test]
fn settings_keep_what_was_written() {
    for (toml, expected) in [("\"a\"", "a"), ("12", "12"), ("1.50", "1.50"), ("true", "true")] {
        assert_eq!(read(setting, toml), Ok(expected.to_owned()), "{toml}");
    }
    assert!(read(setting, "[1]").is_err());
}
