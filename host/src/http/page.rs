//! Pages of the host itself, in memory.

use bytes::Bytes;

use super::Client;

/// A set of pages that the host serves before its mounts and files.
pub trait Pages: Send + Sync {
    /// Returns the page at a decoded path, as `client` is to see it; `None` leaves the path to mounts and files.
    fn page(&self, path: &str, client: &Client) -> Option<Page>;
}

/// A page or a file that a page uses.
#[derive(Clone, Debug)]
pub struct Page {
    /// The content type.
    pub content_type: &'static str,
    /// The content.
    pub body: Bytes,
}
