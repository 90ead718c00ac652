//! Publish keys: secret names to publish under, so that the URL of a viewer does not allow to publish.

use percent_encoding::percent_decode_str;
use sha2::{Digest, Sha256};

use super::grant::{Grant, short_hash};
use super::{Refusal, Request};
use crate::conf::{PublishKey, PublishKeys};
use crate::stream::StreamKey;

/// The secret names of one vhost, by their hash.
#[derive(Debug)]
pub(super) struct PublicNames {
    keys: Vec<PublishKey>,
}

impl PublicNames {
    pub fn new(config: &PublishKeys) -> PublicNames {
        PublicNames { keys: config.keys.clone() }
    }

    /// Returns the public name of the stream in a request.
    pub fn check(&self, request: &Request) -> Result<Grant, Refusal> {
        let StreamKey { vhost, app, stream } = &request.key;
        // A name has at least 128 random bits, so the time of a comparison of hashes tells nothing about it.
        let hash = <[u8; 32]>::from(Sha256::digest(&**stream));
        let is_for = |key: &&PublishKey| key.sha256 == hash && (key.app.is_empty() || *key.app == **app);
        match self.keys.iter().find(is_for) {
            Some(key) => Ok(Grant { key: Some(StreamKey::new(vhost, app, &key.stream)), ..Grant::default() }),
            None => Err(Refusal::UnknownPublishName { hash: short_hash(stream) }),
        }
    }
}

/// Characters between the names in URLs and queries.
const BETWEEN: [char; 8] = ['/', '?', '&', '=', '#', ';', ',', ' '];

impl PublicNames {
    /// Returns a URL or a part of it, with public names in place of secret ones, whether or not they have an extension.
    pub fn without_secrets(&self, text: &str) -> String {
        let mut shown = String::with_capacity(text.len());
        for part in text.split_inclusive(BETWEEN) {
            let name = part.trim_end_matches(BETWEEN);
            match self.public_name(name) {
                Some(public) => shown.extend([public, &part[name.len()..]]),
                None => shown.push_str(part),
            }
        }
        shown
    }

    fn public_name(&self, name: &str) -> Option<&str> {
        let decoded = percent_decode_str(name).decode_utf8_lossy();
        let stem = decoded.rsplit_once('.').map_or(&*decoded, |(stem, _)| stem);
        let hashes = [name, &decoded, stem].map(|name| <[u8; 32]>::from(Sha256::digest(name)));
        self.keys.iter().find(|key| hashes.contains(&key.sha256)).map(|key| key.stream.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conf::Config;
    use crate::policy::Action;
    use crate::policy::request::tests::request;

    #[test]
    fn secret_names_have_public_names() {
        let hash =
            |name: &str| Sha256::digest(name).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let text = format!(
            "[[vhost.v.publish_key.key]]\nstream = \"film\"\nsha256 = \"{}\"\n\
             [[vhost.v.publish_key.key]]\nstream = \"news\"\napp = \"tv\"\nsha256 = \"{}\"",
            hash("one"),
            hash("two")
        );
        let names = PublicNames::new(&Config::parse(&text, "text").unwrap().vhosts[0].publish_key);
        for (app, name, expected) in [
            ("live", "one", Some("v/live/film")),
            ("tv", "one", Some("v/tv/film")),
            ("tv", "two", Some("v/tv/news")),
            ("live", "two", None),
            ("live", "film", None),
            ("live", "", None),
        ] {
            let granted = names.check(&request(Action::Publish, "v", app, name));
            let key = granted.as_ref().ok().and_then(|grant| grant.key.as_ref()).map(StreamKey::to_string);
            assert_eq!(key.as_deref(), expected, "{app}/{name}");
        }
        for (text, expected) in [
            ("rtmp://a/live/one", "rtmp://a/live/film"),
            ("rtmp://a/live/one?one=one&b=two", "rtmp://a/live/film?film=film&b=news"),
            ("?key=o%6ee&x=one.flv&y=oner", "?key=film&x=film&y=oner"),
            ("one", "film"),
            ("", ""),
        ] {
            assert_eq!(names.without_secrets(text), expected);
        }
        let refusal = names.check(&request(Action::Publish, "v", "live", "hush")).unwrap_err();
        assert!(!refusal.to_string().contains("hush"), "{refusal}");
    }
}
