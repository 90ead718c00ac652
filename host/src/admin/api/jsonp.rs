//! JSONP, which SRS's console uses: JSON as an argument of a function that the requesting page has.
//!
//! Any page that a browser shows can read such a reply, from whatever site it comes. So it is off unless `http_api.jsonp` is set,
//! and then for GET requests of the pages with SRS's shapes alone. Browsers say where a request comes from where they can
//! (Fetch Metadata); one from another site is refused.

use hyper::HeaderMap;
use hyper::header::HeaderName;

use super::reply::{Refused, Reply};
use crate::router::query_value;

const CONTENT_TYPE: &str = "text/javascript; charset=utf-8";
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The longest name of a function.
const MAX_NAME: usize = 128;

/// The function that a reply calls.
#[derive(Debug, PartialEq)]
pub(super) struct Callback(String);

impl Callback {
    /// Returns the function that a request names; `None` if it names none.
    ///
    /// # Errors
    /// It is not a name, the request asks for another method, or its page is of another site.
    pub fn of(query: &str, headers: &HeaderMap) -> Result<Option<Callback>, Refused> {
        let Some(name) = query_value(query, "callback") else { return Ok(None) };
        if !is_name(&name) {
            return Err(Refused::Parameter("callback must be the name of a function".to_owned()));
        }
        // SRS takes it for the method of the request.
        if query_value(query, "method").is_some_and(|method| !method.eq_ignore_ascii_case("GET")) {
            return Err(Refused::Method { allowed: "GET".to_owned() });
        }
        if headers.get(SEC_FETCH_SITE).is_some_and(|site| site == "cross-site") {
            return Err(Refused::Forbidden);
        }
        Ok(Some(Callback(name)))
    }

    /// Returns the call with a reply as its argument.
    pub fn apply(&self, reply: Reply) -> Reply {
        // The comment keeps the first bytes of the reply from being the requester's choice.
        let mut body = format!("/**/{}(", self.0).into_bytes();
        // JSON is an expression of JavaScript (ECMA-262, JSON superset).
        body.extend_from_slice(&reply.body);
        body.extend_from_slice(b");");
        Reply { body: body.into(), content_type: CONTENT_TYPE, ..reply }
    }
}

/// Whether a text is an identifier, or several with points between them: `angular.callbacks._0`.
fn is_name(text: &str) -> bool {
    let is_identifier = |part: &str| {
        let mut characters = part.chars();
        let starts = |first: char| first.is_ascii_alphabetic() || matches!(first, '_' | '$');
        characters.next().is_some_and(starts) && characters.all(|one| starts(one) || one.is_ascii_digit())
    };
    text.len() <= MAX_NAME && text.split('.').all(is_identifier)
}

#[cfg(test)]
mod tests {
    use hyper::StatusCode;
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn a_callback_is_a_name() {
        let long = format!("callback={}", "a".repeat(MAX_NAME + 1));
        let rows = [
            ("", Some(None)),
            ("a=b", Some(None)),
            ("callback=cb", Some(Some("cb"))),
            ("callback=angular.callbacks._0&token=x", Some(Some("angular.callbacks._0"))),
            ("callback=$&method=get", Some(Some("$"))),
            ("callback=", None),
            ("callback=0a", None),
            ("callback=a..b", None),
            ("callback=a.", None),
            ("callback=alert(1)", None),
            ("callback=a%0ab", None),
            ("callback=a%20b", None),
            ("callback=%3Cscript%3E", None),
            ("callback=cb&method=DELETE", None),
            (&long, None),
        ];
        for (query, expected) in rows {
            let callback = Callback::of(query, &HeaderMap::new()).ok();
            let expected = expected.map(|name: Option<&str>| name.map(|name| Callback(name.to_owned())));
            assert_eq!(callback, expected, "{query}");
        }
    }

    #[test]
    fn other_sites_are_refused() {
        for (site, admitted) in
            [("same-origin", true), ("same-site", true), ("none", true), ("cross-site", false)]
        {
            let mut headers = HeaderMap::new();
            headers.insert(SEC_FETCH_SITE, HeaderValue::from_static(site));
            assert_eq!(Callback::of("callback=a", &headers).is_ok(), admitted, "{site}");
        }
    }

    #[test]
    fn a_reply_becomes_an_argument() {
        let reply = Reply::json(StatusCode::OK, &serde_json::json!({"a": "</script>\u{2028}"}));
        let called = Callback("f".to_owned()).apply(reply);
        assert_eq!(called.body, "/**/f({\"a\":\"</script>\u{2028}\"});");
        assert_eq!(called.content_type, CONTENT_TYPE);
    }
}
