//! HTTP hooks: an operator's own servers, which decide about sessions and are told about events.
//!
//! | file | content |
//! |---|---|
//! | `shared.rs` | what all hooks of the host share, and the host's own hooks |
//! | `vhost.rs` | the hooks of one vhost, replaced on reload |
//! | `client.rs` | the client of one table of hooks: signatures, limits |
//! | `event.rs` | the JSON of requests |
//! | `gate.rs` | asking: `on_connect`, `on_publish`, `on_play` |
//! | `answer.rs`, `refusal.rs` | the meaning of an answer, and the reasons to refuse |
//! | `forward.rs` | asking where a stream is sent |
//! | `notify.rs` | telling: queue, order, retries |
//! | `ending.rs` | what a session or connection owes the hooks at its end |
//! | `idle.rs` | streams that nobody watches |
//! | `counts.rs` | counters for the metrics |
//!
//! Asking runs in a task of its own: a client that leaves cancels the decision, yet what a hook has answered meanwhile is
//! known, and an accepted session gets its end. An [`Ending`] is the debt: whoever holds it, its `Drop` queues the end, so that
//! there is exactly one, whatever ended the session.
//!
//! Order: the end of a session is queued after its gate has answered, and the end of a connection after all ends of its
//! sessions are delivered or given up, since each of them holds the connection.

mod answer;
mod client;
mod counts;
mod ending;
mod event;
mod forward;
mod gate;
mod idle;
mod notify;
mod refusal;
mod shared;
mod vhost;

pub use counts::{HookCounts, HookResult};
pub use ending::Connected;
pub use event::HookAction;
pub use refusal::HookRefusal;
pub use shared::{Hooks, ReloadFacts};

pub(super) use ending::Ending;
pub(super) use event::Facts;
pub(super) use gate::ask;
pub(super) use vhost::VhostHooks;
