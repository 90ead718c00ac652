//! The console: a page on the API's listener that shows and operates the host.
//!
//! Its files are part of the program and hold nothing secret, so browsers get them without credentials. The page asks the API as
//! any other client does, with the session of its user. It loads nothing from elsewhere but the mounts that it plays.

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{CONTENT_SECURITY_POLICY, HeaderValue, LOCATION, REFERRER_POLICY};

use super::api::Reply;
use crate::player;

/// Scripts, styles and requests to the API come from the host; mounts from any of its listeners. mpegts.js plays through `blob:`.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self' http: https: ws: wss:; \
    media-src blob: http: https:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// The files in `/console/`: name, content type and content.
const FILES: [(&str, &str, &str); 14] = [
    ("", HTML, include_str!("index.html")),
    ("console.css", CSS, include_str!("console.css")),
    ("main.js", SCRIPT, include_str!("main.js")),
    ("api.js", SCRIPT, include_str!("api.js")),
    ("curve.js", SCRIPT, include_str!("curve.js")),
    ("dialog.js", SCRIPT, include_str!("dialog.js")),
    ("elements.js", SCRIPT, include_str!("elements.js")),
    ("feed.js", SCRIPT, include_str!("feed.js")),
    ("format.js", SCRIPT, include_str!("format.js")),
    ("host.js", SCRIPT, include_str!("host.js")),
    ("modules.js", SCRIPT, include_str!("modules.js")),
    ("player.js", SCRIPT, include_str!("player.js")),
    ("sessions.js", SCRIPT, include_str!("sessions.js")),
    ("streams.js", SCRIPT, include_str!("streams.js")),
];

/// Returns the file at a path of the API's listener; `None` if the path is not the console's.
pub(super) fn file(path: &str) -> Option<Reply> {
    if path == "/" || path == "/console" {
        let reply = Reply::new(StatusCode::TEMPORARY_REDIRECT, HTML, Bytes::new());
        return Some(reply.with(LOCATION, HeaderValue::from_static("/console/")));
    }
    let name = path.strip_prefix("/console/")?;
    if name == "mpegts.js" {
        return Some(Reply::new(StatusCode::OK, player::CONTENT_TYPE, Bytes::from_static(player::SCRIPT)));
    }
    let (_, content_type, content) = FILES.iter().find(|(file, ..)| *file == name)?;
    let reply = Reply::new(StatusCode::OK, content_type, *content);
    let reply = reply.with(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    Some(reply.with(REFERRER_POLICY, HeaderValue::from_static("no-referrer")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the names in quotes after `mark`.
    fn named<'a>(text: &'a str, mark: &'a str) -> impl Iterator<Item = &'a str> {
        text.split(mark).skip(1).filter_map(|rest| rest.split('"').next())
    }

    #[test]
    fn every_file_that_is_named_is_served() {
        let page = FILES[0].2;
        let named_by_page =
            named(page, "src=\"").chain(named(page, "href=\"")).filter(|name| !name.starts_with('#'));
        let imported = FILES.iter().filter(|(_, content_type, _)| *content_type == SCRIPT);
        let imported = imported.flat_map(|(.., script)| named(script, "from \"./"));
        let names: Vec<_> = named_by_page.chain(imported).collect();
        assert!(names.len() > FILES.len(), "{names:?}");
        for name in names {
            assert_eq!(
                file(&format!("/console/{name}")).map(|reply| reply.status),
                Some(StatusCode::OK),
                "{name}"
            );
        }
    }

    #[test]
    fn other_paths_are_left_to_the_api() {
        for path in ["/console/x.js", "/console/../api", "/consoles", "/api/v2/host", "/metrics"] {
            assert!(file(path).is_none(), "{path}");
        }
        assert_eq!(file("/").unwrap().status, StatusCode::TEMPORARY_REDIRECT);
    }
}
