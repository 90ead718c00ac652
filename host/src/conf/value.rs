//! The kinds of values that keys take: each reads one TOML value, and says what is wrong with it.
//!
//! Three rules hold for every key. A duration is a plain number of seconds, as SRS has it for most keys, or a
//! string with units. A size is a number of bytes, or a string with `KiB`, `MiB` or `GiB`. An address is
//! `[ip:]port` with a numeric ip, so that nothing has to be resolved to start.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use ipnet::IpNet;
use jiff::SignedDuration;
use toml::Spanned;
use toml::de::{DeInteger, DeValue};

use super::diagnostics::Place;
use super::mistake::{BOOLEAN, Mistake, STRING, closest};

/// A TOML value and where it stands.
pub(super) type Value<'a> = Spanned<DeValue<'a>>;

/// What is wrong, and where.
pub(super) type Fault = (Mistake, Range<usize>);

/// One kind of value.
pub(super) trait Kind<T>: Fn(&Value) -> Result<T, Vec<Fault>> {}

impl<T, F: Fn(&Value) -> Result<T, Vec<Fault>>> Kind<T> for F {}

fn fault<T>(value: &Value, mistake: Mistake) -> Result<T, Vec<Fault>> {
    Err(vec![(mistake, value.span())])
}

pub(super) fn wrong_type<T>(value: &Value, expected: &'static str) -> Result<T, Vec<Fault>> {
    let found = match value.get_ref() {
        DeValue::String(_) => STRING,
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a number with a point",
        DeValue::Boolean(_) => BOOLEAN,
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    fault(value, Mistake::WrongType { expected, found })
}

/// `true` or `false`.
pub(super) fn flag(value: &Value) -> Result<bool, Vec<Fault>> {
    value.get_ref().as_bool().map_or_else(|| wrong_type(value, BOOLEAN), Ok)
}

/// Any string.
pub(super) fn text(value: &Value) -> Result<String, Vec<Fault>> {
    value.get_ref().as_str().map_or_else(|| wrong_type(value, STRING), |text| Ok(text.to_owned()))
}

/// A whole number in a range.
pub(super) fn integer<T: Number>(range: RangeInclusive<T>) -> impl Kind<T> {
    move |value| match value.get_ref() {
        DeValue::Integer(integer) => in_range(value, whole(integer), &range),
        _ => wrong_type(value, "an integer"),
    }
}

/// A number of bytes in a range: an integer, or a string with a unit.
pub(super) fn size<T: Number>(range: RangeInclusive<T>) -> impl Kind<T> {
    move |value| match value.get_ref() {
        DeValue::Integer(integer) => in_range(value, whole(integer), &range),
        DeValue::String(text) => match bytes(text) {
            Some(bytes) => in_range(value, bytes, &range),
            None => fault(value, Mistake::NotASize),
        },
        _ => wrong_type(value, "a size"),
    }
}

/// The types that integers and sizes are read into.
pub(super) trait Number: Copy + TryFrom<i128> + TryInto<i128> {}

impl<T: Copy + TryFrom<i128> + TryInto<i128>> Number for T {}

fn in_range<T: Number>(value: &Value, number: i128, range: &RangeInclusive<T>) -> Result<T, Vec<Fault>> {
    let bound = |bound: T| bound.try_into().unwrap_or(i128::MAX);
    let (min, max) = (bound(*range.start()), bound(*range.end()));
    match T::try_from(number) {
        Ok(result) if (min..=max).contains(&number) => Ok(result),
        _ => fault(value, Mistake::OutOfRange { min, max }),
    }
}

/// The integer; one of more than 127 bits stands for any that is too great.
fn whole(integer: &DeInteger) -> i128 {
    i128::from_str_radix(integer.as_str(), integer.radix()).unwrap_or(i128::MAX)
}

/// `64KiB`, `16 MiB`, `1GiB`, or digits alone.
fn bytes(text: &str) -> Option<i128> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim_start() {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return None,
    };
    Some(i128::from(number.parse::<u64>().ok()?) << shift)
}

/// A duration in a range: seconds, or a string with units.
pub(super) fn duration(range: RangeInclusive<Duration>) -> impl Kind<Duration> {
    move |value| {
        let duration = match value.get_ref() {
            DeValue::Integer(integer) => u64::try_from(whole(integer)).ok().map(Duration::from_secs),
            DeValue::Float(seconds) => {
                seconds.as_str().parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            }
            DeValue::String(text) => {
                text.parse::<SignedDuration>().ok().and_then(|duration| Duration::try_from(duration).ok())
            }
            _ => return wrong_type(value, "a duration"),
        };
        match duration {
            Some(duration) if range.contains(&duration) => Ok(duration),
            Some(duration) => {
                let (min, max) = (*range.start(), *range.end());
                fault(value, Mistake::DurationOutOfRange { value: duration, min, max })
            }
            None => fault(value, Mistake::NotADuration),
        }
    }
}

/// An address to listen on: `[ip:]port`. Port 0 lets the system choose.
pub(super) fn listen(value: &Value) -> Result<SocketAddr, Vec<Fault>> {
    let address = match value.get_ref() {
        DeValue::Integer(integer) => u16::try_from(whole(integer)).ok().map(any_ip),
        DeValue::String(text) => text.parse().ok().or_else(|| text.parse().ok().map(any_ip)),
        _ => return wrong_type(value, "an address, \"[ip:]port\""),
    };
    address.map_or_else(|| fault(value, Mistake::NotAnAddress), Ok)
}

/// `port` of every IPv4 address.
pub(super) fn any_ip(port: u16) -> SocketAddr {
    (Ipv4Addr::UNSPECIFIED, port).into()
}

/// A network: `10.0.0.0/8`, `fd00::/8`, or a single address.
pub(super) fn network(value: &Value) -> Result<IpNet, Vec<Fault>> {
    let text = text(value)?;
    let network = text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    network.map_or_else(|| fault(value, Mistake::NotANetwork), Ok)
}

/// One of a few words.
pub(super) fn choice<T: Copy>(choices: &'static [(&'static str, T)]) -> impl Kind<T> {
    move |value| {
        let word = text(value)?;
        match choices.iter().find(|(name, _)| *name == word) {
            Some((_, choice)) => Ok(*choice),
            None => {
                let allowed: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
                let closest = closest(&word, allowed.iter().copied());
                fault(value, Mistake::NotOneOf { allowed, closest })
            }
        }
    }
}

/// A status that sends a client to another place for the same method (RFC 9110, 15.4).
pub(super) fn redirect_status(value: &Value) -> Result<u16, Vec<Fault>> {
    const ALLOWED: [(u16, &str); 4] = [(301, "301"), (302, "302"), (307, "307"), (308, "308")];
    let DeValue::Integer(integer) = value.get_ref() else { return wrong_type(value, "an integer") };
    match ALLOWED.iter().find(|(status, _)| i128::from(*status) == whole(integer)) {
        Some((status, _)) => Ok(*status),
        None => {
            let allowed = ALLOWED.iter().map(|(_, name)| *name).collect();
            fault(value, Mistake::NotOneOf { allowed, closest: None })
        }
    }
}

/// A list. Every faulty element is reported.
pub(super) fn list<T>(kind: impl Kind<T>) -> impl Kind<Vec<T>> {
    move |value| {
        let Some(array) = value.get_ref().as_array() else { return wrong_type(value, "a list") };
        let mut elements = Vec::new();
        let mut faults = Vec::new();
        for element in array {
            match kind(element) {
                Ok(element) => elements.push(element),
                Err(more) => faults.extend(more),
            }
        }
        if faults.is_empty() { Ok(elements) } else { Err(faults) }
    }
}

/// A value of the kind, which must not be an empty list.
pub(super) fn some<T>(kind: impl Kind<Vec<T>>) -> impl Kind<Vec<T>> {
    move |value| match kind(value)? {
        elements if elements.is_empty() => fault(value, Mistake::Empty),
        elements => Ok(elements),
    }
}

/// A value of the kind, and where it stands.
pub(super) fn placed<T>(kind: impl Kind<T>) -> impl Kind<(T, Place)> {
    move |value| Ok((kind(value)?, Place::new(value.span())))
}

/// Log directives: `LEVEL` or `TARGET=LEVEL`, with commas. The logger itself would take a misspelt level for
/// the name of a target, and fall silent.
pub(super) fn directives(value: &Value) -> Result<String, Vec<Fault>> {
    let directives = text(value)?;
    let level = |directive: &str| {
        let level = directive.rsplit('=').next().unwrap_or(directive).trim();
        ["off", "error", "warn", "info", "debug", "trace"].iter().any(|name| level.eq_ignore_ascii_case(name))
    };
    match directives.split(',').find(|directive| !level(directive)) {
        None => Ok(directives),
        Some(directive) => fault(value, Mistake::NotALevel { directive: directive.trim().to_owned() }),
    }
}

/// The setting of a module's option, as written: what it means is for the module to say.
pub(super) fn setting(value: &Value) -> Result<String, Vec<Fault>> {
    match value.get_ref() {
        DeValue::String(text) => Ok(text.clone().into_owned()),
        DeValue::Integer(integer) => Ok(whole(integer).to_string()),
        DeValue::Float(number) => Ok(number.as_str().to_owned()),
        DeValue::Boolean(flag) => Ok(flag.to_string()),
        _ => wrong_type(value, "a string, a number, true or false"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn read<T>(kind: impl Kind<T>, toml: &str) -> Result<T, Mistake> {
        kind(&DeValue::parse(toml).unwrap()).map_err(|faults| faults[0].0.clone())
    }

    #[test]
    fn durations_are_seconds_or_strings_with_units() {
        let (min, max) = (Duration::from_millis(40), Duration::from_secs(3600));
        let out = |value| Err(Mistake::DurationOutOfRange { value, min, max });
        let rows: &[(&str, Result<u64, Mistake>)] = &[
            ("10", Ok(10_000)),
            ("0.5", Ok(500)),
            ("\"40ms\"", Ok(40)),
            ("\"10s\"", Ok(10_000)),
            ("\"1m 30s\"", Ok(90_000)),
            ("\"1h\"", Ok(3_600_000)),
            ("5000", out(Duration::from_secs(5000))),
            ("0", out(Duration::ZERO)),
            ("\"39ms\"", out(Duration::from_millis(39))),
            ("-1", Err(Mistake::NotADuration)),
            ("nan", Err(Mistake::NotADuration)),
            ("1e300", Err(Mistake::NotADuration)),
            ("\"-1s\"", Err(Mistake::NotADuration)),
            ("\"10\"", Err(Mistake::NotADuration)),
            ("\"soon\"", Err(Mistake::NotADuration)),
            ("true", Err(Mistake::WrongType { expected: "a duration", found: BOOLEAN })),
        ];
        for (toml, expected) in rows {
            assert_eq!(read(duration(min..=max), toml).map(|d| d.as_millis() as u64), *expected, "{toml}");
        }
    }

    #[test]
    fn sizes_are_bytes_or_strings_with_units() {
        let range = || size(1_u32..=16 << 20);
        let out = Err(Mistake::OutOfRange { min: 1, max: 16 << 20 });
        let rows: &[(&str, Result<u32, Mistake>)] = &[
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
            ("\"1MB\"", Err(Mistake::NotASize)),
            ("\"MiB\"", Err(Mistake::NotASize)),
            ("1.5", Err(Mistake::WrongType { expected: "a size", found: "a number with a point" })),
        ];
        for (toml, expected) in rows {
            assert_eq!(read(range(), toml), *expected, "{toml}");
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
        for toml in ["65536", "-1", "\"\"", "\":8080\"", "\"localhost:8080\"", "\"127.0.0.1\"", "\"::1:80\""]
        {
            assert_eq!(read(listen, toml), Err(Mistake::NotAnAddress), "{toml}");
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
            assert_eq!(read(network, toml), Err(Mistake::NotANetwork), "{toml}");
        }
        assert!(read(network, "10").is_err());
    }

    #[test]
    fn directives_name_levels() {
        for good in ["info", "WARN", "info,remuxd::rtmp=debug", "off, remuxd = trace"] {
            assert_eq!(read(directives, &format!("{good:?}")), Ok(good.to_owned()));
        }
        for (bad, directive) in [("inof", "inof"), ("info,remuxd", "remuxd"), ("info,a=b", "a=b"), ("", "")] {
            let mistake = Mistake::NotALevel { directive: directive.to_owned() };
            assert_eq!(read(directives, &format!("{bad:?}")), Err(mistake));
        }
    }

    #[test]
    fn lists_report_every_faulty_element() {
        let faults = list(listen)(&DeValue::parse("[1, 99999, \"x\"]").unwrap()).unwrap_err();
        assert_eq!(faults.iter().map(|(_, span)| span.clone()).collect::<Vec<_>>(), [4..9, 11..14]);
        assert_eq!(read(some(list(text)), "[]"), Err(Mistake::Empty));
    }

    #[test]
    fn settings_keep_what_was_written() {
        for (toml, expected) in [("\"a\"", "a"), ("12", "12"), ("1.50", "1.50"), ("true", "true")] {
            assert_eq!(read(setting, toml), Ok(expected.to_owned()), "{toml}");
        }
        assert!(read(setting, "[1]").is_err());
    }
}
