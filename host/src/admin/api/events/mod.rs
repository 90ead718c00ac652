//! Server-sent events: what goes on, for pages that stay open (HTML standard, 9.2).
//!
//! Nothing observes the host unless somebody subscribes. Then one task compares it with itself a second ago, and sends what has
//! changed to all subscribers. Each has a short queue; whoever does not read it is dropped, so that a slow reader costs a bounded amount
//! of memory and delays nobody. A subscription ends after [`MAX_TIME`](subscription::MAX_TIME), so that credentials are checked again.

mod change;
mod feed;
mod frame;
mod observed;
mod observer;
mod subscription;

pub(super) use feed::{Feed, Full};
pub(super) use observer::subscribe;
pub(in crate::admin) use subscription::{Stay, Subscription};
