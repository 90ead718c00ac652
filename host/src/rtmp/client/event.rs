use crate::media::Tag;

/// An event of a client session.
#[derive(Clone)]
#[non_exhaustive]
pub enum ClientEvent {
    /// The server accepted the publish. Tags may be sent from now on.
    Published,
    /// The server accepted the play.
    Playing,
    /// A tag of the stream being played.
    Media {
        /// The tag. Its `dts` is the message's 32-bit timestamp.
        tag: Tag,
    },
    /// The server rejected the request. The session is over.
    Rejected {
        /// The status code, such as `NetStream.Publish.BadName`; empty if the server sent none.
        code: String,
        /// The server's description.
        description: String,
    },
    /// The server redirects the client (status 302). The session is over.
    Redirect {
        /// The whole URL, or a tcUrl under which the stream keeps its name.
        url: String,
    },
    /// The server asks the client to reconnect at the next keyframe and continues until then.
    Reconnect {
        /// The server to connect to; `None` means the same one.
        tc_url: Option<String>,
    },
    /// The stream ended.
    Ended,
}

/// Leaves out URLs, which may hold tokens, and descriptions, which may repeat a stream key.
impl std::fmt::Debug for ClientEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ClientEvent::Published => f.write_str("Published"),
            ClientEvent::Playing => f.write_str("Playing"),
            ClientEvent::Media { tag } => f.debug_struct("Media").field("tag", tag).finish(),
            ClientEvent::Rejected { code, .. } => {
                f.debug_struct("Rejected").field("code", code).finish_non_exhaustive()
            }
            ClientEvent::Redirect { .. } => f.write_str("Redirect"),
            ClientEvent::Reconnect { .. } => f.write_str("Reconnect"),
            ClientEvent::Ended => f.write_str("Ended"),
        }
    }
}
