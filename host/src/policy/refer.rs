//! `refer`: the sites whose pages may embed players.

use super::{Action, Refusal};
use crate::conf::Refer;

/// Checks the site of a page. Every list that is not empty and is for the action must name it. A site matches by whole
/// labels: `example.com` is `www.example.com` too, but not `evilexample.com`, which SRS accepts.
pub(super) fn check_page(refer: &Refer, action: Action, page_url: &str) -> Result<(), Refusal> {
    if !refer.enabled {
        return Ok(());
    }
    let site = site(page_url);
    let own = match action {
        Action::Publish => &refer.publish,
        Action::Play => &refer.play,
    };
    let accepts = |sites: &Vec<String>| sites.is_empty() || sites.iter().any(|one| is_part_of(&site, one));
    if [&refer.all, own].into_iter().all(accepts) { Ok(()) } else { Err(Refusal::Page { site }) }
}

/// Returns the host name of a URL in lower case, without a final dot; empty if there is none.
fn site(url: &str) -> String {
    let Ok(uri) = url.parse::<hyper::Uri>() else { return String::new() };
    let host = uri.host().unwrap_or_default();
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

fn is_part_of(site: &str, whole: &str) -> bool {
    let Some(rest) = site.len().checked_sub(whole.len()).and_then(|at| site.split_at_checked(at)) else {
        return false;
    };
    rest.1.eq_ignore_ascii_case(whole) && (rest.0.is_empty() || rest.0.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sites_match_by_whole_labels() {
        let refer = Refer {
            enabled: true,
            all: vec!["example.com".into(), "Other.example".into()],
            publish: Vec::new(),
            play: vec!["tv.example.com".into(), "other.example".into()],
        };
        for (url, expected) in [
            ("https://example.com/live", [true, false]),
            ("https://www.example.com:8443/", [true, false]),
            ("https://www.TV.Example.com./a?b#c", [true, true]),
            ("http://other.example", [true, true]),
            ("https://evilexample.com/", [false, false]),
            ("https://example.com.evil.example/", [false, false]),
            ("https://evil.example/?example.com", [false, false]),
            ("https://example.com@evil.example/", [false, false]),
            ("https://evil.example#example.com", [false, false]),
            ("example.com", [true, false]),
            ("", [false, false]),
            ("https://", [false, false]),
            ("ü", [false, false]),
        ] {
            let may = |action| check_page(&refer, action, url).is_ok();
            assert_eq!([may(Action::Publish), may(Action::Play)], expected, "{url}");
        }
        let off = Refer { enabled: false, ..refer };
        assert_eq!(check_page(&off, Action::Play, ""), Ok(()));
    }
}
