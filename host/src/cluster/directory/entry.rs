//! Entries of the directory: nodes and streams, signed.
//!
//! An entry is the text `1.MAC.BODY`. BODY is a JSON object; MAC is the HMAC-SHA256 with `cluster.secret`, in base64url without
//! padding, over the version, the kind of the entry and BODY, each with its length in four bytes before it. Nothing of an entry is
//! parsed before its length and its MAC are right. Other members of the object are ignored, so that later versions may add some.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use hmac::{Hmac, Mac};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::fence::{FenceId, MAX_MILLIS};
use crate::cluster::location::Location;
use crate::conf::{DEFAULT_VHOST, Endpoint, Secret, Upstream, is_node_name, is_rtmp_base};
use crate::policy::mac_of;
use crate::stream::StreamKey;

/// The longest entry, in bytes.
pub const MAX_ENTRY: usize = 4096;

const VERSION: &str = "1";
/// The longest URL in an entry, in bytes.
const MAX_URL: usize = 512;
/// The longest part of a stream's name in an entry, in bytes.
const MAX_NAME: usize = 1024;
/// The longest hash of a credential in an entry, in bytes.
const MAX_HASH: usize = 64;
/// The farthest tier.
const MAX_TIER: u8 = 9;

/// A node of the cluster, as it describes itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeEntry {
    /// Its name, `cluster.node`.
    pub name: String,
    /// When it wrote this, in milliseconds of its own clock. An entry of the same node with a smaller one is older.
    #[serde(default)]
    pub at: u64,
    /// The URL from which other nodes pull its streams.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_url: Option<String>,
    /// The base of the URLs of viewers who are redirected to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub play_url: Option<String>,
    /// The base of the URLs of players over RTMP who are redirected to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtmp_url: Option<String>,
    /// 0 for origins, 1 for edges that pull from them, and so on.
    #[serde(default)]
    pub tier: u8,
    /// The operator's label of its region; empty for none.
    #[serde(default)]
    pub region: String,
    /// Its load.
    #[serde(default)]
    pub load: Load,
}

/// The load of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Load {
    /// Media that it sends, in bit/s.
    pub bitrate: u64,
    /// The bitrate that it can send, in bit/s; 0 for no limit.
    pub max_bitrate: u64,
    /// Number of its viewers and players.
    pub viewers: u64,
    /// How late it sends, in milliseconds.
    pub lag_ms: u64,
}

/// A publisher of a stream, as its node describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamEntry {
    /// The stream.
    pub key: StreamKey,
    /// The publisher's id, which has the node's name.
    pub id: FenceId,
    /// The URL from which other nodes pull that node's streams.
    pub pull_url: String,
    /// The hash of the publisher's credential; empty for none.
    pub publisher: String,
    /// Whether the publisher is there.
    pub state: State,
}

/// The state of a publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It is there.
    Live,
    /// It has left. The entry stays, since its id is the greatest that was seen.
    Ended,
}

/// The reason why an entry is refused. The culprit is who wrote it into the directory.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EntryError {
    /// It is too long.
    #[error("it has {len} bytes, more than {limit}")]
    TooLong {
        /// Its length, in bytes.
        len: usize,
        /// The maximum.
        limit: usize,
    },
    /// It is no entry, or of an unknown version.
    #[error("it is no entry of this version")]
    Form,
    /// It is signed with another secret, or not by a node.
    #[error("its signature is wrong")]
    Signature,
    /// A member is missing, or has a value that none can have.
    #[error("its {member} is wrong")]
    Value {
        /// The member.
        member: &'static str,
    },
    /// It belongs under another name.
    #[error("it is the entry of another name")]
    OtherName,
    /// Its address is not one of a node.
    #[error("{address} is not in cluster.allow")]
    NotAllowed {
        /// The address.
        address: IpAddr,
    },
    /// It leads to the node that looks it up.
    #[error("it leads to this node itself")]
    OwnNode,
}

impl EntryError {
    /// All values of [`EntryError::reason`].
    pub const REASONS: [&str; 7] = ["size", "form", "signature", "value", "name", "address", "loop"];

    /// Returns the error for an entry of `len` bytes that was not read at all.
    pub fn too_long(len: usize) -> EntryError {
        EntryError::TooLong { len, limit: MAX_ENTRY }
    }

    /// The error in one word, for metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            EntryError::TooLong { .. } => "size",
            EntryError::Form => "form",
            EntryError::Signature => "signature",
            EntryError::Value { .. } => "value",
            EntryError::OtherName => "name",
            EntryError::NotAllowed { .. } => "address",
            EntryError::OwnNode => "loop",
        }
    }
}

/// Numbers of entries that were refused, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RefusedEntries([u64; EntryError::REASONS.len()]);

impl RefusedEntries {
    /// Counts an entry.
    pub fn count(&mut self, error: &EntryError) {
        for ((reason, _), count) in self.by_reason().into_iter().zip(&mut self.0) {
            *count += u64::from(reason == error.reason());
        }
    }

    /// Returns the number of each reason.
    pub fn by_reason(self) -> [(&'static str, u64); EntryError::REASONS.len()] {
        std::array::from_fn(|index| (EntryError::REASONS[index], self.0[index]))
    }
}

impl NodeEntry {
    /// Returns the signed text.
    pub fn sign(&self, secret: &Secret) -> String {
        sign("node", &serde_json::to_string(self).unwrap_or_default(), secret)
    }

    /// Reads the entry of the node `name`.
    ///
    /// # Errors
    /// It is not signed with `secret`, has wrong values, or leads outside of `allow`.
    pub fn read(text: &[u8], name: &str, secret: &Secret, allow: &[IpNet]) -> Result<NodeEntry, EntryError> {
        let body = verify("node", text, secret)?;
        let entry: NodeEntry = serde_json::from_str(body).map_err(|_| EntryError::Form)?;
        if entry.name != name {
            return Err(EntryError::OtherName);
        }
        entry.check(allow)?;
        Ok(entry)
    }

    /// Checks the values of an entry, wherever it comes from.
    ///
    /// # Errors
    /// A value that no node has, or an address outside of `allow`.
    pub fn check(&self, allow: &[IpNet]) -> Result<(), EntryError> {
        let value = |member, is_right| if is_right { Ok(()) } else { Err(EntryError::Value { member }) };
        value("name", is_node_name(&self.name))?;
        value("region", self.region.is_empty() || is_node_name(&self.region))?;
        value("tier", self.tier <= MAX_TIER)?;
        value("at", self.at <= MAX_MILLIS)?;
        if let Some(url) = &self.play_url {
            let is_right = url.len() <= MAX_URL && !url.contains(['?', '#']) && Endpoint::parse(url).is_ok();
            value("play_url", is_right)?;
        }
        if let Some(url) = &self.rtmp_url {
            value("rtmp_url", url.len() <= MAX_URL && is_rtmp_base(url))?;
        }
        self.pull_url.as_deref().map_or(Ok(()), |url| check_pull_url(url, allow))
    }
}

/// The body of a [`StreamEntry`].
#[derive(Serialize, Deserialize)]
struct StreamBody {
    vhost: String,
    app: String,
    stream: String,
    id: FenceId,
    pull_url: String,
    #[serde(default)]
    publisher: String,
    state: State,
}

impl StreamEntry {
    /// The node at which the publisher is.
    pub fn node(&self) -> &str {
        &self.id.node
    }

    /// Returns whether both are pulled from the same place.
    pub fn is_at(&self, other: &StreamEntry) -> bool {
        self.id.node == other.id.node && self.pull_url == other.pull_url
    }

    /// Returns the signed text. It may be longer than [`MAX_ENTRY`] if the stream's name is, and is refused by others then.
    pub fn sign(&self, secret: &Secret) -> String {
        let StreamEntry { key, id, pull_url, publisher, state } = self.clone();
        let [vhost, app, stream] = [&key.vhost, &key.app, &key.stream].map(|name| name.to_string());
        let body = StreamBody { vhost, app, stream, id, pull_url, publisher, state };
        sign("stream", &serde_json::to_string(&body).unwrap_or_default(), secret)
    }

    /// Reads the entry of the stream `key`.
    ///
    /// # Errors
    /// It is not signed with `secret`, has wrong values, or leads outside of `allow`.
    pub fn read(
        text: &[u8],
        key: &StreamKey,
        secret: &Secret,
        allow: &[IpNet],
    ) -> Result<StreamEntry, EntryError> {
        let entry = StreamEntry::read_any(text, secret, allow)?;
        if entry.key == *key { Ok(entry) } else { Err(EntryError::OtherName) }
    }

    /// Reads the entry of any stream.
    ///
    /// # Errors
    /// As [`StreamEntry::read`].
    pub fn read_any(text: &[u8], secret: &Secret, allow: &[IpNet]) -> Result<StreamEntry, EntryError> {
        let body = verify("stream", text, secret)?;
        let body: StreamBody = serde_json::from_str(body).map_err(|_| EntryError::Form)?;
        let value = |member, is_right| if is_right { Ok(()) } else { Err(EntryError::Value { member }) };
        value("id", is_node_name(&body.id.node) && body.id.ms <= MAX_MILLIS)?;
        let names = [&body.vhost, &body.app, &body.stream];
        value("name", names.iter().all(|name| (1..=MAX_NAME).contains(&name.len())))?;
        value("publisher", body.publisher.len() <= MAX_HASH)?;
        check_pull_url(&body.pull_url, allow)?;
        let StreamBody { vhost, app, stream, id, pull_url, publisher, state } = body;
        Ok(StreamEntry { key: StreamKey::new(&vhost, &app, &stream), id, pull_url, publisher, state })
    }
}

/// Checks that a URL leads to a server of streams, and by its host not outside of `allow`. The addresses of a host name are checked
/// by the connector.
fn check_pull_url(url: &str, allow: &[IpNet]) -> Result<(), EntryError> {
    const WRONG: EntryError = EntryError::Value { member: "pull_url" };
    if url.len() > MAX_URL || url.contains('?') {
        return Err(WRONG);
    }
    let upstream = Upstream::parse(url, DEFAULT_VHOST).map_err(|_| WRONG)?;
    let location = Location::of(&upstream, &StreamKey::new(DEFAULT_VHOST, "_", "_")).map_err(|_| WRONG)?;
    match location.host.parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(address) if !allow.iter().any(|network| network.contains(&address)) => {
            Err(EntryError::NotAllowed { address })
        }
        _ => Ok(()),
    }
}

fn sign(kind: &str, body: &str, secret: &Secret) -> String {
    let mac = BASE64URL.encode(hash(kind, body, secret).finalize().into_bytes());
    format!("{VERSION}.{mac}.{body}")
}

/// Returns the body of a signed text.
fn verify<'a>(kind: &str, text: &'a [u8], secret: &Secret) -> Result<&'a str, EntryError> {
    if text.len() > MAX_ENTRY {
        return Err(EntryError::too_long(text.len()));
    }
    let text = std::str::from_utf8(text).map_err(|_| EntryError::Form)?;
    let mut parts = text.splitn(3, '.');
    let (Some(VERSION), Some(mac), Some(body)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(EntryError::Form);
    };
    let mac = BASE64URL.decode(mac).map_err(|_| EntryError::Form)?;
    hash(kind, body, secret).verify_slice(&mac).map_err(|_| EntryError::Signature)?;
    Ok(body)
}

fn hash(kind: &str, body: &str, secret: &Secret) -> Hmac<Sha256> {
    mac_of(secret, [VERSION, kind, body])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conf::Config;

    fn secret() -> Secret {
        secret_of("s")
    }

    fn secret_of(letter: &str) -> Secret {
        let config = format!("[cluster]\nsecret = \"{}\"", letter.repeat(32));
        Config::parse(&config, "remuxd.toml").unwrap().cluster.secret.clone().unwrap()
    }

    fn allow() -> Vec<IpNet> {
        vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]
    }

    fn key() -> StreamKey {
        StreamKey::new("v", "live", "film.é")
    }

    fn stream() -> StreamEntry {
        StreamEntry {
            key: key(),
            id: FenceId { ms: 1_800_000_000_000, node: "origin1".to_owned() },
            pull_url: "rtmp://10.0.0.7:1936".to_owned(),
            publisher: "abc".to_owned(),
            state: State::Live,
        }
    }

    fn node() -> NodeEntry {
        NodeEntry {
            name: "edge1".to_owned(),
            at: 5,
            pull_url: Some("rtmps://edge1.example".to_owned()),
            play_url: Some("https://edge1.example".to_owned()),
            rtmp_url: Some("rtmp://edge1.example:1936".to_owned()),
            tier: 1,
            region: "eu".to_owned(),
            load: Load { bitrate: 1, max_bitrate: 2, viewers: 3, lag_ms: 4 },
        }
    }

    #[test]
    fn entries_come_back_as_they_were_signed() {
        let text = stream().sign(&secret());
        assert_eq!(StreamEntry::read(text.as_bytes(), &key(), &secret(), &allow()).unwrap(), stream());
        let text = node().sign(&secret());
        assert_eq!(NodeEntry::read(text.as_bytes(), "edge1", &secret(), &allow()).unwrap(), node());
        let bare =
            NodeEntry { pull_url: None, play_url: None, rtmp_url: None, region: String::new(), ..node() };
        let text = bare.sign(&secret());
        assert_eq!(NodeEntry::read(text.as_bytes(), "edge1", &secret(), &allow()).unwrap(), bare);
    }

    #[test]
    fn a_changed_byte_is_refused_wherever_it_is() {
        for text in [stream().sign(&secret()), node().sign(&secret())] {
            for at in 0..text.len() {
                let mut bytes = text.clone().into_bytes();
                bytes[at] ^= 1;
                let refused = StreamEntry::read(&bytes, &key(), &secret(), &allow()).is_err()
                    && NodeEntry::read(&bytes, "edge1", &secret(), &allow()).is_err();
                assert!(refused, "byte {at}");
            }
        }
        // An entry of one kind is none of the other, and none of another secret.
        let other = secret_of("t");
        let text = stream().sign(&secret());
        let read = NodeEntry::read(text.as_bytes(), "origin1", &secret(), &allow());
        assert_eq!(read.unwrap_err(), EntryError::Signature);
        let read = StreamEntry::read(text.as_bytes(), &key(), &other, &allow());
        assert_eq!(read.unwrap_err(), EntryError::Signature);
        let read = StreamEntry::read(text.as_bytes(), &StreamKey::new("v", "live", "x"), &secret(), &allow());
        assert_eq!(read.unwrap_err(), EntryError::OtherName);
    }

    #[test]
    fn signed_lies_are_refused_by_their_values() {
        let with = |change: &dyn Fn(&mut StreamEntry)| {
            let mut entry = stream();
            change(&mut entry);
            let text = entry.sign(&secret());
            StreamEntry::read_any(text.as_bytes(), &secret(), &allow())
                .map(|_| "")
                .unwrap_or_else(|error| error.reason())
        };
        let url = |url: &str| with(&|entry| entry.pull_url = url.to_owned());
        assert_eq!(url("rtmp://10.1.2.3"), "");
        assert_eq!(url("rtmp://[fd00::1]:1935"), "");
        assert_eq!(url("http://name.example:8080"), "");
        assert_eq!(url("rtmp://[::ffff:10.1.2.3]"), "");
        assert_eq!(url("rtmp://11.0.0.1"), "address");
        assert_eq!(url("rtmp://[::1]"), "address");
        assert_eq!(url("http://127.0.0.1/[app]"), "address");
        for wrong in
            ["", "file:///etc/passwd", "rtmp://", "rtmp://h?key=k", "rtmp://a b", "rtmp://u@h", "redis://h"]
        {
            assert_eq!(url(wrong), "value", "{wrong}");
        }
        assert_eq!(url(&format!("rtmp://{}", "h".repeat(600))), "value");
        assert_eq!(with(&|entry| entry.id.ms = u64::MAX), "value");
        assert_eq!(with(&|entry| entry.id.ms = MAX_MILLIS), "");
        assert_eq!(with(&|entry| entry.id.node = "a:b".to_owned()), "value");
        assert_eq!(with(&|entry| entry.publisher = "h".repeat(65)), "value");
        assert_eq!(with(&|entry| entry.key = StreamKey::new("v", "", "x")), "value");
        assert_eq!(with(&|entry| entry.key = StreamKey::new("v", "a", &"x".repeat(1025))), "value");
        assert_eq!(with(&|entry| entry.key = StreamKey::new("v", "a", &"x".repeat(5000))), "size");
        for wrong in [
            NodeEntry { name: "edge 1".to_owned(), ..node() },
            NodeEntry { region: "e/u".to_owned(), ..node() },
            NodeEntry { tier: 10, ..node() },
            NodeEntry { at: u64::MAX, ..node() },
            NodeEntry { play_url: Some("rtmp://h".to_owned()), ..node() },
            NodeEntry { play_url: Some("http://h/?k".to_owned()), ..node() },
            NodeEntry { rtmp_url: Some("rtmp://h/live".to_owned()), ..node() },
            NodeEntry { pull_url: Some("ftp://h".to_owned()), ..node() },
        ] {
            let text = wrong.sign(&secret());
            let read = NodeEntry::read(text.as_bytes(), &wrong.name, &secret(), &allow());
            assert_eq!(read.unwrap_err().reason(), "value", "{wrong:?}");
        }
    }

    #[test]
    fn what_is_no_entry_is_refused_before_it_is_parsed() {
        let huge = format!("1.{}.{{}}", "A".repeat(MAX_ENTRY));
        let deep = sign("stream", &"[".repeat(4000), &secret());
        for (text, reason) in [
            (&b""[..], "form"),
            (b"1", "form"),
            (b"1..", "signature"),
            (b"2.AA.{}", "form"),
            (b"1.!.{}", "form"),
            (b"1.AAAA.{}", "signature"),
            (b"\xff\xfe", "form"),
            (huge.as_bytes(), "size"),
            (deep.as_bytes(), "form"),
        ] {
            let error = StreamEntry::read(text, &key(), &secret(), &allow()).unwrap_err();
            assert_eq!(error.reason(), reason, "{:?}", String::from_utf8_lossy(&text[..text.len().min(20)]));
            assert!(EntryError::REASONS.contains(&error.reason()));
        }
    }
}
