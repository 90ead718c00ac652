//! Static files of `http_server.dir`: pages, players, recordings (RFC 9110).
//!
//! Invariants: nothing outside the directory is opened ([`beneath`]); only regular files are served; no file system
//! call is made on a network thread; at most one chunk of a body is in memory beside hyper's buffer. A file that gets
//! shorter while it is sent ends the connection, so that no client takes the part for the whole.

mod beneath;
mod body;
mod pseudo;

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use hyper::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue,
    LAST_MODIFIED, LOCATION, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Method, Request, Response, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rustix::io::Errno;
use tokio::task::spawn_blocking;
use tracing::warn;

use self::beneath::open_beneath;
pub(super) use self::body::FileBody;

use super::conditional::{ByteRange, Condition, Validators};
use super::media_type::{UNKNOWN, media_type};
use super::{Body, ConnectionContext, Refusal};
use crate::budget::Charge;
use crate::module::{Registry, Transport};
use crate::router::{INDEX, Resolved};

/// Caches may keep a file, and must revalidate it each time.
const REVALIDATE: HeaderValue = HeaderValue::from_static("no-cache");

/// Characters that are encoded in the path of a redirect.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// The result of looking a path up.
enum Found {
    File(Recording),
    /// A directory whose path lacks its final slash.
    Directory,
    Nothing,
}

/// An open file, and the bytes to send before a part of it.
struct Recording {
    file: File,
    /// Length of the file when it was opened, in bytes; nothing behind it is served.
    len: u64,
    validators: Validators,
    /// Pseudo-streaming: the bytes to send before the part, and the offset of the part.
    prologue: Option<(Bytes, u64)>,
}

/// Static files, with the content types of modules.
pub(super) struct Files {
    registry: Arc<Registry>,
}

impl Files {
    /// A file with an extension of a module of `registry` has its content type.
    pub(super) fn new(registry: Arc<Registry>) -> Files {
        Files { registry }
    }

    /// Answers a GET or HEAD with the file of `dir` that its URL names; `None` if there is none. Its memory is charged to `account`.
    ///
    /// # Errors
    /// [`Refusal`] when the request's conditions or ranges do not fit the file, or it cannot be read, or memory is short.
    pub(super) async fn respond<B>(
        &self,
        dir: &Path,
        request: &Request<B>,
        resolved: &Resolved,
        connection: &ConnectionContext,
    ) -> Result<Option<Response<Body>>, Refusal> {
        let Some(name) = &resolved.file else { return Ok(None) };
        let (dir, path, start) = (dir.to_owned(), name.clone(), pseudo::start(&resolved.query));
        let found =
            spawn_blocking(move || find(&dir, &path, start)).await.map_err(|_| Refusal::Unavailable)?;
        match found {
            Ok(Found::File(recording)) => {
                let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
                let module = self.registry.find(extension, Transport::HTTP);
                let media = match &module {
                    Some(module) => module.content_type(),
                    None => media_type(extension).unwrap_or(UNKNOWN),
                };
                let room = connection.account.admit(body::MEMORY)?;
                send(recording, media, request.method(), request.headers(), room).map(Some)
            }
            Ok(Found::Directory) => Ok(Some(to_directory(&resolved.path, request.uri().query()))),
            Ok(Found::Nothing) => Ok(None),
            Err(error) => {
                warn!(connection = %connection.id, %error, "a file cannot be served");
                Err(Refusal::Unavailable)
            }
        }
    }
}

/// Opens a file and reads its metadata. Blocks.
fn find(dir: &Path, name: &str, start: Option<u64>) -> io::Result<Found> {
    let file = match open_beneath(dir, name) {
        Ok(file) => file,
        Err(error) if is_shortage(&error) => return Err(error),
        Err(_) => return Ok(Found::Nothing),
    };
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Ok(if name.ends_with(INDEX) { Found::Nothing } else { Found::Directory });
    }
    if !metadata.is_file() {
        return Ok(Found::Nothing);
    }
    let prologue = match start {
        Some(start) => pseudo::prologue(&file, start)?.map(|prologue| (prologue, start)),
        None => None,
    };
    let validators = Validators::of(&metadata);
    Ok(Found::File(Recording { file, len: metadata.len(), validators, prologue }))
}

/// Whether the error is due to a lack of resources, not to the path.
fn is_shortage(error: &io::Error) -> bool {
    const SHORTAGES: [Errno; 5] = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::IO, Errno::AGAIN];
    Errno::from_io_error(error).is_some_and(|error| SHORTAGES.contains(&error))
}

fn send(
    recording: Recording,
    media: &str,
    method: &Method,
    asked: &HeaderMap,
    room: Charge,
) -> Result<Response<Body>, Refusal> {
    let Recording { file, len, validators, prologue } = recording;
    let condition = validators.check(asked);
    if condition == Condition::Failed {
        return Err(Refusal::Precondition);
    }
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, REVALIDATE);
    insert(headers, ETAG, &validators.tag);
    if let Some(modified) = validators.modified {
        insert(headers, LAST_MODIFIED, &httpdate::fmt_http_date(modified));
    }
    if condition == Condition::NotModified {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return Ok(response);
    }
    let range = match &prologue {
        Some((_, start)) if *start >= len => return Err(Refusal::Range { len }),
        Some((_, start)) => ByteRange::Part(*start..len),
        // A range is for GET only (RFC 9110, 14.2).
        None if *method == Method::GET => validators.range(asked, len),
        None => ByteRange::Whole,
    };
    let part = match range {
        ByteRange::Whole => 0..len,
        ByteRange::Part(part) => part,
        ByteRange::Unsatisfiable => return Err(Refusal::Range { len }),
    };
    insert(headers, CONTENT_TYPE, media);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let first = match prologue {
        Some((prologue, _)) => prologue,
        None => {
            headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
            if part.end - part.start < len {
                let range = format!("bytes {}-{}/{len}", part.start, part.end - 1);
                insert(headers, CONTENT_RANGE, &range);
                *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            }
            Bytes::new()
        }
    };
    let length = first.len() as u64 + (part.end - part.start);
    response.headers_mut().insert(CONTENT_LENGTH, length.into());
    if *method == Method::GET {
        *response.body_mut() = Body::File(FileBody::new(first, file, part, room));
    }
    Ok(response)
}

/// Inserts a header; a value that is not visible ASCII is left out.
fn insert(headers: &mut HeaderMap, name: hyper::header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// Redirects to the directory's path with a final slash, so that relative links on the page work. The path has no empty
/// segment, so the URL cannot name another host.
fn to_directory(path: &str, query: Option<&str>) -> Response<Body> {
    let mut location = format!("{}/", utf8_percent_encode(path, PATH));
    if let Some(query) = query {
        location = location + "?" + query;
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    insert(response.headers_mut(), LOCATION, &location);
    response.headers_mut().insert(CACHE_CONTROL, REVALIDATE);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_redirects_within_this_host() {
        let response = to_directory("/a b/\u{fc}", Some("k=v"));
        assert_eq!(response.headers()[LOCATION], "/a%20b/%C3%BC/?k=v");
    }
}
