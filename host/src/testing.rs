//! The host's parts as the crate of tests, the fuzz targets and the benchmarks use them.
//!
//! Everything else of this crate is private, so that the compiler finds code that nothing uses. An item that a test from
//! outside needs is added here; one that is here for no such test is removed.

/// The config.
pub mod conf {
    pub use crate::conf::{Config, Current, Proxy};
}

/// The memory budget.
pub mod budget {
    pub use crate::budget::Account;
    #[cfg(fuzzing)]
    pub use crate::budget::Budget;
}

/// Tags.
pub mod media {
    pub use crate::media::{Millis, Packet, Tag, TagKind, Tracks};
}

/// RTMP.
pub mod rtmp {
    pub use crate::rtmp::{ClientSession, Input, MAX_UNREAD_REPLIES, ServerSession, SessionError};

    /// The chunk stream.
    pub mod chunk {
        pub use crate::rtmp::chunk::{ChunkError, ChunkLimits, ChunkReader, ChunkWriter};
    }
    /// The client's session.
    pub mod client {
        pub use crate::rtmp::client::{ClientEvent, ClientSettings};
    }
    /// Handshakes.
    pub mod handshake {
        pub use crate::rtmp::handshake::{Handshake, HandshakeError, Random, Scheme};
    }
    /// Messages.
    pub mod message {
        pub use crate::rtmp::message::{Aggregate, Control, Message, MessageKind};
    }
    /// The output buffer.
    pub mod output {
        pub use crate::rtmp::output::Output;
    }
    /// The server's session.
    pub mod server {
        pub use crate::rtmp::server::{Event, PlayEnd, ServerSession, ServerSettings};
    }
    /// Stream names.
    pub mod tc_url {
        pub use crate::rtmp::tc_url::StreamName;
    }
}

/// Modules.
pub mod module {
    pub use crate::module::{
        Allowance, BlockFlags, HOST_ABI, LoadError, Module, ModuleFault, Options, OutBlock, Pool, Registry,
        Setup, Staged, StreamFacts, Transport, module_main, probe_main,
    };
    #[cfg(fuzzing)]
    pub use crate::module::{Remuxer, Terms, check_wire, linked};
}

/// The conformance kit.
pub mod author {
    pub use crate::author::run_check;
}

/// Streams.
pub mod stream {
    pub use crate::stream::{Hub, StreamKey};

    /// Rings.
    pub mod ring {
        pub use crate::stream::{EntryRole, JoinAt, Pace, Reader, Ring, RingLimits};
    }
}

/// HTTP.
pub mod http {
    pub use crate::http::websocket::frames;
    pub use crate::http::{ByteRange, Client, Condition, ConnectionContext, Service, Stall, Validators};
    pub use crate::lifecycle::Lifecycle;
    pub use crate::policy::ConnectionId;
}

/// Routing.
pub mod router {
    pub use crate::router::{Redirection, Router};
}

/// Other servers.
pub mod cluster {
    pub use crate::cluster::Backoff;
    #[cfg(fuzzing)]
    pub use crate::cluster::{Directory, FlvError, FlvReader, Outbox, Relay, RespError, RespReader, Value};
}

/// The network.
pub mod net {
    #[cfg(fuzzing)]
    pub use crate::net::{Fanout, Server, in_memory};

    /// The PROXY protocol.
    pub mod proxy {
        pub use crate::net::proxy::{MAX_HEADER, Rest, SIGNATURE, rest, source};
    }
}
