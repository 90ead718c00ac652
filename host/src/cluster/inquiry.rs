//! Inquiries: which origin has a stream.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::time::timeout;

use super::error::UpstreamError;
use super::health::Origin;
use super::means::Means;
use super::origin::{Asker, Incoming};
use super::transfers::TransferEntry;
use crate::budget::Account;
use crate::conf::Vhost;
use crate::media::{Tag, TagKind};
use crate::stream::{StreamKey, SupplyError};

/// Limit of tags that are kept before the first media.
const MAX_EARLY: usize = 16;

/// The means to ask origins for one stream.
pub(super) struct Inquiry {
    pub means: Arc<Means>,
    pub key: StreamKey,
    /// The nodes that the first client of the stream has passed, and this one.
    pub hops: String,
    /// The memory of the stream.
    pub account: Account,
    /// The record of the pull.
    pub record: Arc<TransferEntry>,
}

/// An origin that sends the stream.
pub(super) struct Found {
    pub origin: Origin,
    pub incoming: Incoming,
    /// The tags up to the first media.
    pub early: VecDeque<Tag>,
}

/// No origin has the stream.
#[derive(Debug)]
pub(super) struct NotFound {
    pub error: SupplyError,
    /// The last error of an origin, other than that it does not have the stream.
    pub cause: Option<UpstreamError>,
}

impl NotFound {
    /// No origin has the stream, and none fails.
    pub const ABSENT: NotFound = NotFound { error: SupplyError::NotFound, cause: None };

    /// No origin is known, and the directory does not answer.
    pub const UNKNOWN: NotFound = NotFound { error: SupplyError::Unreachable, cause: None };
}

impl Inquiry {
    /// Asks the origins, one after the other, until one has sent media. `on_ask` gets each of them before.
    ///
    /// # Errors
    /// None has the stream.
    pub async fn ask(
        &self,
        vhost: &Vhost,
        origins: Vec<Origin>,
        on_ask: impl Fn(&Origin) + Send,
    ) -> Result<Found, NotFound> {
        let mut failure = NotFound::ABSENT;
        for origin in origins {
            self.means.health.begin(&origin, std::time::Instant::now());
            on_ask(&origin);
            match self.first_media(vhost, &origin).await {
                Ok((incoming, early)) => return Ok(Found { origin, incoming, early }),
                Err(error) => {
                    let now = std::time::Instant::now();
                    if !self.means.health.judge(&origin, &error, now) {
                        self.record.fail(error.to_string());
                        failure = NotFound { error: SupplyError::Unreachable, cause: Some(error) };
                    }
                }
            }
        }
        Err(failure)
    }

    /// Opens the stream at an origin, and waits for its first media. Also returns the tags up to there.
    async fn first_media(
        &self,
        vhost: &Vhost,
        origin: &Origin,
    ) -> Result<(Incoming, VecDeque<Tag>), UpstreamError> {
        let cluster = &vhost.cluster;
        let (hops, account, limit) = (&self.hops, &self.account, cluster.connect_timeout);
        let on_ask = |server: IpAddr| self.means.pulls.lock().ask(&self.key, server.to_canonical());
        let led = (&origin.location, origin.led);
        let mut incoming = self.means.opener.open(led, Asker::Node, hops, account, limit, on_ask).await?;
        let mut early = VecDeque::new();
        let first = async {
            loop {
                let tag = match incoming.next_tag().await {
                    // Some servers accept every name first.
                    Err(UpstreamError::Closed | UpstreamError::Io(_)) => return Err(UpstreamError::Dropped),
                    tag => tag?.ok_or(UpstreamError::NotFound)?,
                };
                let is_media = is_media(&tag);
                if early.len() == MAX_EARLY {
                    early.pop_front();
                }
                early.push_back(tag);
                if is_media {
                    return Ok(());
                }
            }
        };
        // Some servers accept every name, and send nothing.
        timeout(cluster.first_byte_timeout, first).await.unwrap_or(Err(UpstreamError::NotFound))?;
        Ok((incoming, early))
    }
}

/// Returns whether a tag is audio or video.
pub(super) fn is_media(tag: &Tag) -> bool {
    tag.kind == TagKind::AUDIO || tag.kind == TagKind::VIDEO
}
