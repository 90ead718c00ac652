//! The kinds of values: each reads one TOML value or returns its errors.
//!
//! Four rules hold for every key. A duration is a number of seconds, as in most keys of SRS, or a string with units. A
//! size is a number of bytes, or a string with `KiB`, `MiB` or `GiB`. A bitrate is a number of bits per second, or a string
//! with `k`, `M` or `G`, as ffmpeg has it. An address is `[ip:]port` with a numeric ip, so
//! that a start needs no name resolution.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::IpNet;
use jiff::SignedDuration;
use toml::Spanned;
use toml::de::{DeInteger, DeValue};
use tracing_subscriber::EnvFilter;

use super::access::Addresses;
use super::config::MemoryLimit;
use super::endpoint::Endpoint;
use super::error::{BOOLEAN, STRING, ValueError, closest};
use super::upstream::Upstream;

/// A kind of value.
pub(super) trait Kind<T>: Fn(&Spanned<DeValue>) -> Result<T, Vec<Spanned<ValueError>>> {}

impl<T, F: Fn(&Spanned<DeValue>) -> Result<T, Vec<Spanned<ValueError>>>> Kind<T> for F {}

pub(super) fn fault<T>(value: &Spanned<DeValue>, error: ValueError) -> Result<T, Vec<Spanned<ValueError>>> {
    Err(vec![Spanned::new(value.span(), error)])
}

pub(super) fn wrong_type<T>(
    value: &Spanned<DeValue>,
    expected: &'static str,
) -> Result<T, Vec<Spanned<ValueError>>> {
    let found = match value.get_ref() {
        DeValue::String(_) => STRING,
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a number with a point",
        DeValue::Boolean(_) => BOOLEAN,
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    fault(value, ValueError::WrongType { expected, found })
}

/// Reads `true` or `false`.
pub(super) fn flag(value: &Spanned<DeValue>) -> Result<bool, Vec<Spanned<ValueError>>> {
    value.get_ref().as_bool().map_or_else(|| wrong_type(value, BOOLEAN), Ok)
}

/// Reads any string.
pub(super) fn text(value: &Spanned<DeValue>) -> Result<String, Vec<Spanned<ValueError>>> {
    value.get_ref().as_str().map_or_else(|| wrong_type(value, STRING), |text| Ok(text.to_owned()))
}

/// Reads an integer in a range.
pub(super) fn integer<T: Number>(range: RangeInclusive<T>) -> impl Kind<T> {
    move |value| match value.get_ref() {
        DeValue::Integer(integer) => in_range(value, whole(integer), &range),
        _ => wrong_type(value, "an integer"),
    }
}

/// Reads a number of bytes in a range: an integer, or a string with a unit.
pub(super) fn size<T: Number>(range: RangeInclusive<T>) -> impl Kind<T> {
    move |value| match value.get_ref() {
        DeValue::Integer(integer) => in_range(value, whole(integer), &range),
        DeValue::String(text) => match bytes(text) {
            Some(bytes) => in_range(value, bytes, &range),
            None => fault(value, ValueError::NotASize),
        },
        _ => wrong_type(value, "a size"),
    }
}

/// Reads a number of bytes in a range, or a string with 1 to 100 percent.
pub(super) fn memory_limit(range: RangeInclusive<usize>) -> impl Kind<MemoryLimit> {
    let size = size(range);
    move |value| {
        let percent = value.get_ref().as_str().and_then(|text| text.strip_suffix('%'));
        match percent.map(|number| number.trim_end().parse::<u64>()) {
            None => size(value).map(MemoryLimit::Bytes),
            Some(Ok(percent)) => in_range(value, percent.into(), &(1..=100)).map(MemoryLimit::Percent),
            Some(Err(_)) => fault(value, ValueError::NotASize),
        }
    }
}

/// A type that integers and sizes are read into.
pub(super) trait Number: Copy + TryFrom<i128> + TryInto<i128> {}

impl<T: Copy + TryFrom<i128> + TryInto<i128>> Number for T {}

fn in_range<T: Number>(
    value: &Spanned<DeValue>,
    number: i128,
    range: &RangeInclusive<T>,
) -> Result<T, Vec<Spanned<ValueError>>> {
    let bound = |bound: T| bound.try_into().unwrap_or(i128::MAX);
    let (min, max) = (bound(*range.start()), bound(*range.end()));
    match T::try_from(number) {
        Ok(result) if (min..=max).contains(&number) => Ok(result),
        _ => fault(value, ValueError::OutOfRange { min, max }),
    }
}

/// Returns the integer, or `i128::MAX` if it has more than 127 bits.
fn whole(integer: &DeInteger) -> i128 {
    i128::from_str_radix(integer.as_str(), integer.radix()).unwrap_or(i128::MAX)
}

/// Parses `64KiB`, `16 MiB`, `1GiB`, or digits alone.
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

/// Reads a bitrate in bits per second: an integer, or a string with a decimal unit, up to 1000 Gbit/s.
pub(super) fn bitrate(value: &Spanned<DeValue>) -> Result<u64, Vec<Spanned<ValueError>>> {
    const MAX: u64 = 1_000_000_000_000;
    match value.get_ref() {
        DeValue::Integer(integer) => in_range(value, whole(integer), &(0..=MAX)),
        DeValue::String(text) => match bits(text) {
            Some(bits) => in_range(value, bits, &(0..=MAX)),
            None => fault(value, ValueError::NotABitrate),
        },
        _ => wrong_type(value, "a bitrate"),
    }
}

/// Parses `800k`, `2.5M`, `1 G`, or digits alone.
fn bits(text: &str) -> Option<i128> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim_start() {
        "" => 1.0,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        _ => return None,
    };
    Some((number.parse::<f64>().ok()? * factor) as i128)
}

/// Reads a duration in a range: seconds, or a string with units.
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
                fault(value, ValueError::DurationOutOfRange { value: duration, min, max })
            }
            None => fault(value, ValueError::NotADuration),
        }
    }
}

/// Reads an address to listen on: `[ip:]port`, by default on every IPv4 interface. Port 0 lets the system choose.
pub(super) fn listen(value: &Spanned<DeValue>) -> Result<SocketAddr, Vec<Spanned<ValueError>>> {
    address(value, any_ip)
}

/// Reads an address to listen on, as [`listen`] does, but by default on loopback.
pub(super) fn listen_locally(value: &Spanned<DeValue>) -> Result<SocketAddr, Vec<Spanned<ValueError>>> {
    address(value, loopback)
}

fn address(
    value: &Spanned<DeValue>,
    of_port: fn(u16) -> SocketAddr,
) -> Result<SocketAddr, Vec<Spanned<ValueError>>> {
    let address = match value.get_ref() {
        DeValue::Integer(integer) => u16::try_from(whole(integer)).ok().map(of_port),
        DeValue::String(text) => text.parse().ok().or_else(|| text.parse().ok().map(of_port)),
        _ => return wrong_type(value, "an address, \"[ip:]port\""),
    };
    address.map_or_else(|| fault(value, ValueError::NotAnAddress), Ok)
}

/// Returns `port` on loopback.
pub(super) fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Returns `port` on every IPv4 interface.
pub(super) fn any_ip(port: u16) -> SocketAddr {
    (Ipv4Addr::UNSPECIFIED, port).into()
}

/// Reads a network: `10.0.0.0/8`, `fd00::/8`, or a single address.
pub(super) fn network(value: &Spanned<DeValue>) -> Result<IpNet, Vec<Spanned<ValueError>>> {
    let text = text(value)?;
    let network = text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    network.map_or_else(|| fault(value, ValueError::NotANetwork), Ok)
}

/// Reads a set of addresses: `all`, or a network.
pub(super) fn addresses(value: &Spanned<DeValue>) -> Result<Addresses, Vec<Spanned<ValueError>>> {
    if value.get_ref().as_str() == Some("all") {
        return Ok(Addresses::All);
    }
    network(value).map(Addresses::Network)
}

/// Reads an origin: scheme, host and port, as browsers send it (RFC 6454, 6.2).
pub(super) fn origin(value: &Spanned<DeValue>) -> Result<String, Vec<Spanned<ValueError>>> {
    let origin = text(value)?;
    let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
    let is_host = |host: &str| {
        !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_graphic() && !b"/?#@".contains(&byte))
    };
    let is_lower = origin == origin.to_ascii_lowercase();
    if is_lower && host.is_some_and(is_host) { Ok(origin) } else { fault(value, ValueError::NotAnOrigin) }
}

/// Reads a URL that the host asks.
pub(super) fn endpoint(value: &Spanned<DeValue>) -> Result<Endpoint, Vec<Spanned<ValueError>>> {
    Endpoint::parse(&text(value)?).or_else(|error| fault(value, error.into()))
}

/// Reads a server that streams of `vhost` are pulled from or sent to.
pub(super) fn upstream(vhost: &str) -> impl Kind<Upstream> {
    move |value| Upstream::parse(&text(value)?, vhost).or_else(|error| fault(value, error.into()))
}

/// Reads a host name without port.
pub(super) fn host_name(value: &Spanned<DeValue>) -> Result<String, Vec<Spanned<ValueError>>> {
    let name = text(value)?;
    if is_host_name(&name) { Ok(name) } else { fault(value, ValueError::NotAHostName) }
}

/// Returns whether a Host header without its port and final dot can be `name`: a name, an IPv4 address, or an IPv6
/// address in brackets.
pub(super) fn is_host_name(name: &str) -> bool {
    let ipv6 = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match ipv6 {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => {
            let reserved = |c: char| c.is_whitespace() || "/:?#[]@*".contains(c);
            !name.is_empty() && !name.contains(reserved) && !name.ends_with('.')
        }
    }
}

/// Reads one of several words.
pub(super) fn choice<T: Copy>(choices: &'static [(&'static str, T)]) -> impl Kind<T> {
    move |value| {
        let word = text(value)?;
        match choices.iter().find(|(name, _)| *name == word) {
            Some((_, choice)) => Ok(*choice),
            None => {
                let allowed = choices.iter().map(|(name, _)| *name).filter(|name| !name.is_empty());
                let allowed: Vec<_> = allowed.collect();
                let closest = closest(&word, allowed.iter().copied());
                fault(value, ValueError::NotOneOf { allowed, closest })
            }
        }
    }
}

/// Reads the status of a redirect that keeps the method of GET and HEAD (RFC 9110, 15.4).
pub(super) fn redirect_status(value: &Spanned<DeValue>) -> Result<u16, Vec<Spanned<ValueError>>> {
    const ALLOWED: [(u16, &str); 4] = [(301, "301"), (302, "302"), (307, "307"), (308, "308")];
    let DeValue::Integer(integer) = value.get_ref() else { return wrong_type(value, "an integer") };
    match ALLOWED.iter().find(|(status, _)| i128::from(*status) == whole(integer)) {
        Some((status, _)) => Ok(*status),
        None => {
            let allowed = ALLOWED.iter().map(|(_, name)| *name).collect();
            fault(value, ValueError::NotOneOf { allowed, closest: None })
        }
    }
}

/// Reads a list; returns the errors of all its elements.
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

/// Reads one element, or a list of them.
pub(super) fn one_or_list<T>(kind: impl Kind<T>) -> impl Kind<Vec<T>> {
    move |value| match value.get_ref() {
        DeValue::Array(_) => list(&kind)(value),
        _ => kind(value).map(|element| vec![element]),
    }
}

/// Reads a list that must not be empty.
pub(super) fn some<T>(kind: impl Kind<Vec<T>>) -> impl Kind<Vec<T>> {
    move |value| match kind(value)? {
        elements if elements.is_empty() => fault(value, ValueError::Empty),
        elements => Ok(elements),
    }
}

/// Reads log directives: `LEVEL` or `TARGET=LEVEL`, separated by commas. The logger itself would take a misspelt level
/// for the name of a target and log nothing.
pub(super) fn directives(value: &Spanned<DeValue>) -> Result<String, Vec<Spanned<ValueError>>> {
    let directives = text(value)?;
    let level = |directive: &str| {
        let level = directive.rsplit('=').next().unwrap_or(directive).trim();
        ["off", "error", "warn", "info", "debug", "trace"].iter().any(|name| level.eq_ignore_ascii_case(name))
    };
    match directives.split(',').find(|directive| !level(directive)) {
        None if EnvFilter::try_new(&directives).is_err() => {
            fault(value, ValueError::NotAFilter { directives })
        }
        None => Ok(directives),
        Some(directive) => fault(value, ValueError::NotALevel { directive: directive.trim().to_owned() }),
    }
}

/// Reads the value of a module's option as written; the module's schema gives it a type.
pub(super) fn setting(value: &Spanned<DeValue>) -> Result<String, Vec<Spanned<ValueError>>> {
    match value.get_ref() {
        DeValue::String(text) => Ok(text.clone().into_owned()),
        DeValue::Integer(integer) => Ok(whole(integer).to_string()),
        DeValue::Float(number) => Ok(number.as_str().to_owned()),
        DeValue::Boolean(flag) => Ok(flag.to_string()),
        _ => wrong_type(value, "a string, a number, true or false"),
    }
}

#[cfg(test)]
mod tests;
