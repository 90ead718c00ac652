//! Conditional and range requests (RFC 9110, 13 and 14), as functions of the request's headers.
//!
//! Several ranges in one request are answered with the whole file, as RFC 9110, 14.2 allows: no player asks for them,
//! and many small parts are a known way to overload a server.
//!
//! A malformed header is ignored, except that `If-Match` without a matching tag fails.

use std::fs::Metadata;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hyper::header::{
    HeaderMap, HeaderName, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE,
};

/// The last second that an HTTP date can express: 9999-12-31T23:59:59Z.
const LAST_SECOND: u64 = 253_402_300_799;

/// The validators of a file: they change when the file does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validators {
    /// The entity tag, strong, with its quotes.
    pub tag: String,
    /// The time of the last change, in whole seconds; `None` if no HTTP date can express it.
    pub modified: Option<SystemTime>,
}

/// The outcome of a request's preconditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// They hold, or there are none.
    Holds,
    /// 304: the client has the current file.
    NotModified,
    /// 412: the file is not the one that the client expects.
    Failed,
}

/// The part of a file that a request's `Range` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ByteRange {
    /// The whole file.
    Whole,
    /// These bytes, at least one.
    Part(Range<u64>),
    /// 416: no byte of the file.
    Unsatisfiable,
}

impl Validators {
    /// Returns the validators of a file.
    pub fn of(metadata: &Metadata) -> Validators {
        let (seconds, nanoseconds) = (metadata.mtime(), metadata.mtime_nsec());
        let modified = u64::try_from(seconds).ok().filter(|seconds| *seconds <= LAST_SECOND);
        Validators {
            tag: format!("\"{seconds:x}.{nanoseconds:x}-{:x}\"", metadata.size()),
            modified: modified.map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds)),
        }
    }

    /// Evaluates the preconditions of a GET or HEAD, in the order of RFC 9110, 13.2.2.
    pub fn check(&self, headers: &HeaderMap) -> Condition {
        if headers.contains_key(IF_MATCH) {
            if !self.is_listed(headers, IF_MATCH, Comparison::Strong) {
                return Condition::Failed;
            }
        } else if let (Some(modified), Some(date)) = (self.modified, date(headers, IF_UNMODIFIED_SINCE))
            && modified > date
        {
            return Condition::Failed;
        }
        if headers.contains_key(IF_NONE_MATCH) {
            if self.is_listed(headers, IF_NONE_MATCH, Comparison::Weak) {
                return Condition::NotModified;
            }
        } else if let (Some(modified), Some(date)) = (self.modified, date(headers, IF_MODIFIED_SINCE))
            && modified <= date
        {
            return Condition::NotModified;
        }
        Condition::Holds
    }

    /// Returns the part of a file of `len` bytes that a GET asks for.
    pub fn range(&self, headers: &HeaderMap, len: u64) -> ByteRange {
        let mut ranges = headers.get_all(RANGE).iter();
        match (ranges.next(), ranges.next()) {
            (Some(range), None) if self.is_current(headers) => {
                range.to_str().map_or(ByteRange::Whole, |text| parse_range(text, len))
            }
            _ => ByteRange::Whole,
        }
    }

    /// Whether the `If-Range` of a request, if any, names this state of the file. A date must be equal to be as strong
    /// as a tag.
    fn is_current(&self, headers: &HeaderMap) -> bool {
        let Some(value) = headers.get(IF_RANGE) else { return true };
        let Ok(value) = value.to_str() else { return false };
        if value.starts_with('"') || value.starts_with("W/") {
            return value.trim() == self.tag;
        }
        let date = httpdate::parse_http_date(value).ok();
        date.is_some() && date == self.modified
    }

    fn is_listed(&self, headers: &HeaderMap, name: HeaderName, comparison: Comparison) -> bool {
        let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        values
            .flat_map(|value| if value.trim() == "*" { vec![(false, "*")] } else { tags(value) })
            .any(|(weak, tag)| tag == "*" || (tag == self.tag && (!weak || comparison == Comparison::Weak)))
    }
}

/// The comparison of entity tags (RFC 9110, 8.8.3.2).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Strong,
    Weak,
}

fn date(headers: &HeaderMap, name: HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok()
}

/// Returns the entity tags of a list, with their quotes, and whether each is weak; up to the first malformed one.
fn tags(list: &str) -> Vec<(bool, &str)> {
    let mut tags = Vec::new();
    let mut rest = list;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let weak = rest.starts_with("W/");
        rest = rest.strip_prefix("W/").unwrap_or(rest);
        let end = rest.strip_prefix('"').and_then(|opaque| opaque.find('"'));
        let Some(end) = end else { return tags };
        let (tag, more) = rest.split_at(end + 2);
        tags.push((weak, tag));
        rest = more;
    }
}

/// Parses `bytes=FIRST-LAST`, `bytes=FIRST-` or `bytes=-COUNT` for a file of `len` bytes (RFC 9110, 14.1.1).
fn parse_range(text: &str, len: u64) -> ByteRange {
    let Some((unit, set)) = text.split_once('=') else { return ByteRange::Whole };
    let Some((first, last)) = set.trim().split_once('-').filter(|_| !set.contains(',')) else {
        return ByteRange::Whole;
    };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return ByteRange::Whole;
    }
    let part = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => first..last.saturating_add(1).min(len),
        (Some(first), None) if last.is_empty() => first..len,
        (None, Some(count)) if first.is_empty() => len.saturating_sub(count)..len,
        _ => return ByteRange::Whole,
    };
    if part.start < part.end { ByteRange::Part(part) } else { ByteRange::Unsatisfiable }
}

/// Parses digits; a number out of range becomes the greatest.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const THEN: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

    fn validators() -> Validators {
        Validators { tag: "\"a,b\"".into(), modified: httpdate::parse_http_date(THEN).ok() }
    }

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn conditions_are_judged_in_the_order_of_rfc_9110() {
        use Condition::*;
        let rows: &[(&[(&str, &str)], Condition)] = &[
            (&[], Holds),
            (&[("if-match", "\"a,b\"")], Holds),
            (&[("if-match", "\"x\", \"a,b\"")], Holds),
            (&[("if-match", "\"x\""), ("if-match", "\"a,b\"")], Holds),
            (&[("if-match", "*")], Holds),
            (&[("if-match", "\"x\"")], Failed),
            (&[("if-match", "W/\"a,b\"")], Failed),
            (&[("if-match", "a,b")], Failed),
            (&[("if-match", "\"a,b\""), ("if-unmodified-since", BEFORE)], Holds),
            (&[("if-unmodified-since", BEFORE)], Failed),
            (&[("if-unmodified-since", THEN)], Holds),
            (&[("if-unmodified-since", "yesterday")], Holds),
            (&[("if-none-match", "\"a,b\"")], NotModified),
            (&[("if-none-match", "W/\"a,b\"")], NotModified),
            (&[("if-none-match", "\"x\" , W/\"a,b\"")], NotModified),
            (&[("if-none-match", "*")], NotModified),
            (&[("if-none-match", "\"x\"")], Holds),
            (&[("if-none-match", "\"x\""), ("if-modified-since", AFTER)], Holds),
            (&[("if-modified-since", BEFORE)], Holds),
            (&[("if-modified-since", THEN)], NotModified),
            (&[("if-modified-since", AFTER)], NotModified),
            (&[("if-modified-since", "0")], Holds),
            (&[("if-match", "\"x\""), ("if-none-match", "\"a,b\"")], Failed),
        ];
        for (lines, expected) in rows {
            assert_eq!(validators().check(&headers(lines)), *expected, "{lines:?}");
        }
        let timeless = Validators { modified: None, ..validators() };
        assert_eq!(timeless.check(&headers(&[("if-modified-since", AFTER)])), Holds);
        assert_eq!(timeless.check(&headers(&[("if-unmodified-since", BEFORE)])), Holds);
    }

    #[test]
    fn ranges_are_one_part_or_the_whole() {
        use ByteRange::*;
        let rows: &[(&str, u64, ByteRange)] = &[
            ("bytes=0-0", 10, Part(0..1)),
            ("bytes=2-5", 10, Part(2..6)),
            ("Bytes = 2-5", 10, Part(2..6)),
            ("bytes=5-", 10, Part(5..10)),
            ("bytes=5-99999999999999999999", 10, Part(5..10)),
            ("bytes=-3", 10, Part(7..10)),
            ("bytes=-30", 10, Part(0..10)),
            ("bytes=10-", 10, Unsatisfiable),
            ("bytes=99999999999999999999-", 10, Unsatisfiable),
            ("bytes=-0", 10, Unsatisfiable),
            ("bytes=0-", 0, Unsatisfiable),
            ("bytes=5-2", 10, Whole),
            ("bytes=0-1,4-5", 10, Whole),
            ("bytes=-", 10, Whole),
            ("bytes=", 10, Whole),
            ("bytes=+1-2", 10, Whole),
            ("bytes=a-b", 10, Whole),
            ("bytes=--1", 10, Whole),
            ("seconds=1-2", 10, Whole),
            ("1-2", 10, Whole),
        ];
        for (text, len, expected) in rows {
            assert_eq!(validators().range(&headers(&[("range", text)]), *len), *expected, "{text}");
        }
        assert_eq!(validators().range(&headers(&[("range", "bytes=0-1"), ("range", "bytes=2-3")]), 9), Whole);
        assert_eq!(validators().range(&headers(&[]), 9), Whole);
    }

    #[test]
    fn if_range_must_name_the_current_file() {
        for (if_range, counts) in [
            ("\"a,b\"", true),
            ("\"x\"", false),
            ("W/\"a,b\"", false),
            (THEN, true),
            (AFTER, false),
            (BEFORE, false),
            ("nonsense", false),
        ] {
            let headers = headers(&[("range", "bytes=1-"), ("if-range", if_range)]);
            let expected = if counts { ByteRange::Part(1..9) } else { ByteRange::Whole };
            assert_eq!(validators().range(&headers, 9), expected, "{if_range}");
        }
    }
}
