//! Lists of nodes: that of the config, and a JSON document over HTTP.
//!
//! The document is an array of nodes, or an object with the array `nodes`. A node has the members of
//! [`NodeEntry`](super::entry::NodeEntry); others are ignored. It needs no signature: it comes from a URL of the config, and should
//! come over HTTPS. A document that cannot be used leaves the last good one in force; a node in it that cannot be used is left out.

use std::collections::HashSet;
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;

use super::entry::{EntryError, NodeEntry};
use crate::conf::{Directory, Endpoint, StaticNode};
use crate::policy::{Outbound, OutboundError};

/// Limit of a document, in bytes.
pub const MAX_DOCUMENT: usize = 1 << 20;

/// Limit of the nodes of a document.
pub const MAX_NODES: usize = 2000;

/// The nodes of a document.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct List {
    /// Those that can be used.
    pub nodes: Vec<NodeEntry>,
    /// The others, by their places in the document.
    pub refused: Vec<(usize, EntryError)>,
}

/// The reason why there is no list. Culprit: the server of the list, or the operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ListError {
    /// There is no answer.
    #[error("{0}")]
    Outbound(#[from] OutboundError),
    /// The answer has another status than 200.
    #[error("the status is {status}")]
    Status {
        /// The status.
        status: u16,
    },
    /// The document is no list of nodes.
    #[error("it is no list of nodes")]
    Form,
    /// The document has too many nodes.
    #[error("it has {count} nodes, more than {MAX_NODES}")]
    TooMany {
        /// Their number.
        count: usize,
    },
    /// The document has no node that can be used.
    #[error("it has no usable node ({refused} are refused)")]
    Empty {
        /// Number of nodes that cannot be used.
        refused: usize,
    },
}

/// Returns the nodes of the config.
pub fn of_config(directory: &Directory) -> Vec<NodeEntry> {
    directory.nodes.iter().map(of_static).collect()
}

/// Asks for a document and reads it.
///
/// # Errors
/// There is none, or it cannot be used.
pub async fn ask(
    outbound: &Outbound,
    url: &Endpoint,
    timeout: Duration,
    allow: &[IpNet],
) -> Result<List, ListError> {
    let answer = outbound.get_up_to(url, MAX_DOCUMENT, timeout).await?;
    if answer.status != 200 {
        return Err(ListError::Status { status: answer.status });
    }
    read(&answer.body, allow)
}

/// Reads a document. Nodes may have addresses in `allow`.
///
/// # Errors
/// It cannot be used.
pub fn read(document: &[u8], allow: &[IpNet]) -> Result<List, ListError> {
    let document: Document = serde_json::from_slice(document).map_err(|_| ListError::Form)?;
    let (Document::Array(nodes) | Document::Object { nodes }) = document;
    if nodes.len() > MAX_NODES {
        return Err(ListError::TooMany { count: nodes.len() });
    }
    let (mut list, mut names) = (List::default(), HashSet::new());
    for (place, node) in nodes.into_iter().enumerate() {
        let entry = NodeEntry::deserialize(node).map_err(|_| EntryError::Form);
        let checked = entry.and_then(|entry| entry.check(allow).map(|()| entry));
        match checked {
            Ok(entry) if names.insert(entry.name.clone()) => list.nodes.push(entry),
            Ok(_) => list.refused.push((place, EntryError::OtherName)),
            Err(error) => list.refused.push((place, error)),
        }
    }
    if list.nodes.is_empty() {
        return Err(ListError::Empty { refused: list.refused.len() });
    }
    Ok(list)
}

/// The two forms of a document.
#[derive(Deserialize)]
#[serde(untagged)]
enum Document {
    Array(Vec<serde_json::Value>),
    Object { nodes: Vec<serde_json::Value> },
}

fn of_static(node: &StaticNode) -> NodeEntry {
    let StaticNode { name, pull_url, play_url, rtmp_url, tier, region } = node.clone();
    NodeEntry { name, at: 0, pull_url, play_url, rtmp_url, tier, region, load: Default::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allow() -> Vec<IpNet> {
        vec!["10.0.0.0/8".parse().unwrap()]
    }

    fn names(document: &str) -> Result<String, ListError> {
        let list = read(document.as_bytes(), &allow())?;
        let refused = list.refused.iter().map(|(place, error)| format!("{place}:{}", error.reason()));
        let names = list.nodes.iter().map(|node| node.name.clone());
        Ok(names.chain(refused).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn reads_both_forms_and_ignores_other_members() {
        let rows = [
            (r#"[{"name":"a"}]"#, "a"),
            (r#"{"nodes":[{"name":"a"},{"name":"b","colour":{"x":1}}],"version":7}"#, "a b"),
            (
                r#"[{"name":"a","pull_url":"rtmp://10.1.2.3","play_url":"https://a.example","tier":1,"region":"eu"}]"#,
                "a",
            ),
        ];
        for (document, expected) in rows {
            assert_eq!(names(document).as_deref(), Ok(expected), "{document}");
        }
        let list = read(br#"[{"name":"a","load":{"bitrate":5,"lag_ms":7}}]"#, &allow()).unwrap();
        assert_eq!((list.nodes[0].load.bitrate, list.nodes[0].load.lag_ms), (5, 7));
    }

    #[test]
    fn a_node_that_cannot_be_used_is_left_out_and_the_others_stay() {
        let rows = [
            (r#"[{"name":"a"},{"name":"b","pull_url":"rtmp://192.0.2.1"}]"#, "a 1:address"),
            (r#"[7,{"name":"a"},{"tier":1}]"#, "a 0:form 2:form"),
            (r#"[{"name":"a"},{"name":"a","tier":1}]"#, "a 1:name"),
            (r#"[{"name":"a b"},{"name":"a"},{"name":"c","tier":77}]"#, "a 0:value 2:value"),
            (r#"[{"name":"a"},{"name":"b","play_url":"javascript:alert(1)"}]"#, "a 1:value"),
        ];
        for (document, expected) in rows {
            assert_eq!(names(document).as_deref(), Ok(expected), "{document}");
        }
    }

    #[test]
    fn a_document_without_a_usable_node_is_an_error() {
        let many = format!("[{}]", vec![r#"{"name":"a"}"#; MAX_NODES + 1].join(","));
        let deep = "[".repeat(100_000);
        let rows = [
            ("", ListError::Form),
            ("nodes", ListError::Form),
            ("{}", ListError::Form),
            (&deep, ListError::Form),
            ("[]", ListError::Empty { refused: 0 }),
            (r#"{"nodes":[{"name":""}]}"#, ListError::Empty { refused: 1 }),
            (&many, ListError::TooMany { count: MAX_NODES + 1 }),
        ];
        for (document, expected) in rows {
            assert_eq!(names(document), Err(expected), "{}", &document[..document.len().min(40)]);
        }
    }
}
