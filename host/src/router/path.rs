//! Paths of URLs: decoding, and the file that a path names.

use percent_encoding::percent_decode_str;

/// The file that answers for a directory.
pub const INDEX: &str = "index.html";

/// The one directory whose name starts with a dot and whose files are served (RFC 8615).
const WELL_KNOWN: &str = ".well-known";

/// A path that is not absolute, has `.` or `..`, an encoded slash or control character, a malformed `%`, or is not UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this path cannot be served")]
pub struct InvalidPath;

/// Decodes a path segment by segment, so that an encoded slash cannot add a segment.
pub(super) fn decode_path(path: &str) -> Result<String, InvalidPath> {
    let mut decoded = String::with_capacity(path.len());
    for segment in path.strip_prefix('/').ok_or(InvalidPath)?.split('/') {
        if !is_encoded_right(segment) {
            return Err(InvalidPath);
        }
        let segment = percent_decode_str(segment).decode_utf8().map_err(|_| InvalidPath)?;
        if segment == "."
            || segment == ".."
            || segment.contains(|c: char| matches!(c, '/' | '\\') || c.is_control())
        {
            return Err(InvalidPath);
        }
        decoded.push('/');
        decoded.push_str(&segment);
    }
    Ok(decoded)
}

/// Whether two hexadecimal digits follow every `%` (RFC 3986, 2.1).
fn is_encoded_right(segment: &str) -> bool {
    segment
        .split('%')
        .skip(1)
        .all(|after| after.len() >= 2 && after.bytes().take(2).all(|digit| digit.is_ascii_hexdigit()))
}

/// Returns the path, relative to the directory of static files, of the file that a decoded path names; `None` for one
/// that is never served: names that start with a dot, and empty ones.
pub(super) fn file_path(path: &str) -> Option<String> {
    let path = path.strip_prefix('/')?;
    let (dirs, last) = path.rsplit_once('/').map_or((None, path), |(dirs, last)| (Some(dirs), last));
    let is_served = |segment: &str| !segment.is_empty() && !segment.starts_with('.');
    let mut dirs = dirs.into_iter().flat_map(|dirs| dirs.split('/')).enumerate();
    if !dirs.all(|(depth, segment)| is_served(segment) || (depth == 0 && segment == WELL_KNOWN)) {
        return None;
    }
    match last {
        "" => Some(format!("{path}{INDEX}")),
        _ => is_served(last).then(|| path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_paths_by_segments() {
        for (path, decoded) in [
            ("/live/a.flv", Some("/live/a.flv")),
            ("/live/%e4%bd%a0.flv", Some("/live/你.flv")),
            ("/live/a%20b..c.flv", Some("/live/a b..c.flv")),
            ("/live/../a.flv", None),
            ("/live/%2e%2e/a.flv", None),
            ("/live/./a.flv", None),
            ("/live%2fa.flv", None),
            ("/live/%00.flv", None),
            ("/li%0a2026-01-01 ERROR x.flv", None),
            ("/live/%1b[31m.flv", None),
            ("/live/%c2%85.flv", None),
            ("/live/%ff.flv", None),
            ("/live/%zz.flv", None),
            ("/live/a%2", None),
            ("*", None),
        ] {
            assert_eq!(decode_path(path).ok().as_deref(), decoded, "{path}");
        }
    }

    #[test]
    fn paths_name_files_without_dots() {
        for (path, expected) in [
            ("/", Some("index.html")),
            ("/a.html", Some("a.html")),
            ("/a/b c.js", Some("a/b c.js")),
            ("/a/", Some("a/index.html")),
            ("/.well-known/acme-challenge/x", Some(".well-known/acme-challenge/x")),
            ("/a.d/..x", None),
            ("/a/.well-known/x", None),
            ("/.well-known", None),
            ("/.git/config", None),
            ("/a/.htaccess", None),
            ("//a", None),
            ("/a//b", None),
            ("/a//", None),
            ("", None),
        ] {
            assert_eq!(file_path(path).as_deref(), expected, "{path}");
        }
    }
}
