//! The commands of the directory in Redis: its keys, its channels and its scripts.

use std::sync::LazyLock;
use std::time::Duration;

use crate::conf::Directory;
use crate::stream::StreamKey;

/// How long the greatest id of a stream is kept after the last word of its publisher.
const KEEP: Duration = Duration::from_secs(86_400);

/// The most nodes that the directory lists.
pub const MAX_NODES: usize = 1000;

/// A script, which Redis runs as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Script {
    /// Puts the entry of a live publisher in place.
    Put,
    /// Puts the entry of a publisher that has left in place.
    End,
    /// Reads the entries of streams.
    Look,
    /// Presents an entry that was seen.
    Present,
    /// Writes the entry of a node, and reads those of all nodes.
    Node,
    /// Enters or removes a node as the carrier of streams.
    Carry,
}

/// The purpose of [`put`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// A new publisher, which must not take a stream from another credential.
    Claim,
    /// A publisher that is there.
    Renew,
}

/// Nodes of which one carries a stream for the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group<'a> {
    /// Their region; empty for none.
    pub region: &'a str,
    /// Their tier.
    pub tier: u8,
}

/// The names of one directory in Redis.
#[derive(Clone, Debug)]
pub struct Names {
    /// The first part of all names.
    pub prefix: String,
    /// The lease of entries.
    pub lease: Duration,
}

const ALL: [Script; 6] =
    [Script::Put, Script::End, Script::Look, Script::Present, Script::Node, Script::Carry];

/// The hash by which Redis knows each script.
static HASHES: LazyLock<[String; 6]> =
    LazyLock::new(|| ALL.map(|script| sha1_smol::Sha1::from(script.source()).digest().to_string()));

impl Script {
    /// Returns the text.
    fn source(self) -> String {
        let body = match self {
            Script::Put => include_str!("lua/put.lua"),
            Script::End => include_str!("lua/end.lua"),
            Script::Look => include_str!("lua/look.lua"),
            Script::Present => include_str!("lua/present.lua"),
            Script::Node => include_str!("lua/node.lua"),
            Script::Carry => include_str!("lua/carry.lua"),
        };
        format!("{}{body}", include_str!("lua/common.lua"))
    }

    fn hash(self) -> &'static str {
        ALL.iter().zip(&*HASHES).find(|(one, _)| **one == self).map_or("", |(_, hash)| hash)
    }
}

/// Returns the commands that load all scripts.
pub fn load() -> Vec<Vec<Vec<u8>>> {
    ALL.map(|script| words(&["SCRIPT", "LOAD", &script.source()])).into()
}

impl Names {
    /// Returns the names of a directory.
    pub fn of(directory: &Directory) -> Names {
        Names { prefix: directory.prefix.clone(), lease: directory.lease }
    }

    /// Returns the command that puts the signed entry of a live publisher in place.
    pub fn put(&self, key: &StreamKey, text: &str, put: Put) -> Vec<Vec<u8>> {
        let (lease, keep) = (millis(self.lease), millis(KEEP));
        let mode = match put {
            Put::Claim => "claim",
            Put::Renew => "renew",
        };
        call(Script::Put, &[&self.stream(key)], &[text, &lease, &keep, &self.channel(key), mode])
    }

    /// Returns the command that puts the signed entry of a publisher that has left in place.
    pub fn end(&self, key: &StreamKey, text: &str) -> Vec<Vec<u8>> {
        call(Script::End, &[&self.stream(key)], &[text, &millis(KEEP), &self.channel(key)])
    }

    /// Returns the command that presents the signed entry of a publisher that was seen.
    pub fn present(&self, key: &StreamKey, text: &str) -> Vec<Vec<u8>> {
        call(Script::Present, &[&self.stream(key)], &[text, &millis(KEEP), &self.channel(key)])
    }

    /// Returns the command that reads the entries of streams.
    pub fn look(&self, keys: &[StreamKey]) -> Vec<Vec<u8>> {
        let keys: Vec<_> = keys.iter().map(|key| self.stream(key)).collect();
        call(Script::Look, &keys.iter().map(String::as_str).collect::<Vec<_>>(), &[])
    }

    /// Returns the command that reads the entries at keys that [`Names::scan`] has found.
    pub fn look_raw(&self, keys: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut command = call(Script::Look, &[], &[]);
        command.truncate(2);
        command.push(keys.len().to_string().into_bytes());
        command.extend(keys.iter().map(|key| key.to_vec()));
        command
    }

    /// Returns the command that writes the signed entry of a node, or with an empty one none, and reads those of all.
    pub fn node(&self, name: &str, text: &str) -> Vec<Vec<u8>> {
        let start = format!("{}:node:", self.prefix);
        let (key, index) = (format!("{start}{name}"), format!("{}:nodes", self.prefix));
        let arguments = [text, &millis(self.lease), name, &start, &MAX_NODES.to_string()];
        call(Script::Node, &[&key, &index], &arguments)
    }

    /// Returns the command that removes the entry of a node that leaves.
    pub fn remove_node(&self, name: &str) -> Vec<Vec<u8>> {
        words(&["DEL", &format!("{}:node:{name}", self.prefix)])
    }

    /// Returns the command that enters `node` as the carrier of streams in a group, where no other node is.
    pub fn carry(&self, group: Group<'_>, node: &str, keys: &[StreamKey]) -> Vec<Vec<u8>> {
        let keys: Vec<_> = keys.iter().map(|key| self.carrier_key(group, key)).collect();
        let keys: Vec<_> = keys.iter().map(String::as_str).collect();
        call(Script::Carry, &keys, &[node, &millis(self.lease)])
    }

    /// Returns the command that removes `node` as the carrier of streams, where it is.
    pub fn drop_carried(&self, group: Group<'_>, node: &str, keys: &[StreamKey]) -> Vec<Vec<u8>> {
        let keys: Vec<_> = keys.iter().map(|key| self.carrier_key(group, key)).collect();
        let keys: Vec<_> = keys.iter().map(String::as_str).collect();
        call(Script::Carry, &keys, &[node, "0"])
    }

    /// Returns the command that reads the carrier of a stream in a group.
    pub fn carrier(&self, group: Group<'_>, key: &StreamKey) -> Vec<Vec<u8>> {
        words(&["GET", &self.carrier_key(group, key)])
    }

    /// Returns the command that reads a part of the keys of streams, from `cursor` on.
    pub fn scan(&self, cursor: &str) -> Vec<Vec<u8>> {
        words(&["SCAN", cursor, "MATCH", &format!("{}:stream:*", self.prefix), "COUNT", "500"])
    }

    /// Returns commands of which the first is refused if the user may not subscribe. The other one is a ping.
    pub fn probe(&self) -> [Vec<Vec<u8>>; 2] {
        [words(&["SUBSCRIBE", &format!("{}:events:", self.prefix)]), words(&["PING"])]
    }

    /// Returns the command that subscribes to streams, or ends that.
    pub fn subscribe(&self, keys: &[StreamKey], is_on: bool) -> Vec<Vec<u8>> {
        let channels = keys.iter().map(|key| self.channel(key).into_bytes());
        let command = if is_on { "SUBSCRIBE" } else { "UNSUBSCRIBE" };
        std::iter::once(command.as_bytes().to_vec()).chain(channels).collect()
    }

    fn stream(&self, key: &StreamKey) -> String {
        let StreamKey { vhost, app, stream } = key;
        format!("{}:stream:{vhost}/{app}/{stream}", self.prefix)
    }

    fn carrier_key(&self, Group { region, tier }: Group<'_>, key: &StreamKey) -> String {
        let StreamKey { vhost, app, stream } = key;
        format!("{}:carrier:{region}:{tier}:{vhost}/{app}/{stream}", self.prefix)
    }

    fn channel(&self, key: &StreamKey) -> String {
        let StreamKey { vhost, app, stream } = key;
        format!("{}:events:{vhost}/{app}/{stream}", self.prefix)
    }
}

fn call(script: Script, keys: &[&str], arguments: &[&str]) -> Vec<Vec<u8>> {
    let count = keys.len().to_string();
    words(&[&["EVALSHA", script.hash(), &count], keys, arguments].concat())
}

fn words(words: &[&str]) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

fn millis(duration: Duration) -> String {
    duration.as_millis().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_name_keys_and_channels_of_the_stream() {
        let names = Names { prefix: "p".to_owned(), lease: Duration::from_secs(10) };
        let (key, group) = (StreamKey::new("v", "live", "x"), Group { region: "eu", tier: 1 });
        let shown = |command: Vec<Vec<u8>>| {
            let words = command.into_iter().map(|word| String::from_utf8(word).unwrap());
            words.filter(|word| word.len() != 40).collect::<Vec<_>>().join(" ")
        };
        for (command, expected) in [
            (
                names.put(&key, "E", Put::Claim),
                "EVALSHA 1 p:stream:v/live/x E 10000 86400000 p:events:v/live/x claim",
            ),
            (names.end(&key, "E"), "EVALSHA 1 p:stream:v/live/x E 86400000 p:events:v/live/x"),
            (names.look(&[key.clone(), key.clone()]), "EVALSHA 2 p:stream:v/live/x p:stream:v/live/x"),
            (names.node("a", ""), "EVALSHA 2 p:node:a p:nodes  10000 a p:node: 1000"),
            (names.subscribe(std::slice::from_ref(&key), true), "SUBSCRIBE p:events:v/live/x"),
            (
                names.carry(group, "a", std::slice::from_ref(&key)),
                "EVALSHA 1 p:carrier:eu:1:v/live/x a 10000",
            ),
            (
                names.drop_carried(group, "a", std::slice::from_ref(&key)),
                "EVALSHA 1 p:carrier:eu:1:v/live/x a 0",
            ),
            (names.carrier(group, &key), "GET p:carrier:eu:1:v/live/x"),
        ] {
            assert_eq!(shown(command), expected);
        }
        let hashes: std::collections::HashSet<_> = ALL.iter().map(|script| script.hash()).collect();
        assert_eq!(hashes.len(), ALL.len());
    }
}
