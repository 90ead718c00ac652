//! Errors of connections to other servers. None of them names a query.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use super::flv::FlvError;
use super::location::LocationError;
use crate::rtmp::SessionError;

/// The reason why there is no connection to a server. Culprit: operator, or the server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The host name has no address.
    #[error("cannot resolve {host}: {reason}")]
    Resolve {
        /// The host.
        host: String,
        /// The reason.
        reason: String,
    },
    /// No address of the host may be connected to.
    #[error("{address} is not in cluster.allow")]
    NotAllowed {
        /// One of its addresses.
        address: IpAddr,
    },
    /// A redirect or the directory leads to a host that the config does not name.
    #[error("led to {host}, which the config does not name")]
    Foreign {
        /// The host.
        host: String,
    },
    /// The server cannot be reached.
    #[error("cannot connect: {0}")]
    Io(#[from] io::Error),
    /// TLS cannot be negotiated, or the certificate is not trusted.
    #[error("no TLS: {reason}")]
    Tls {
        /// The reason.
        reason: String,
    },
}

/// The reason why a session with a server fails. Culprit: the server, unless it says otherwise.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpstreamError {
    /// There is no connection.
    #[error("{0}")]
    Connect(#[from] ConnectError),
    /// The name of the stream, or the target of a redirect, cannot be used.
    #[error("{0}")]
    Location(#[from] LocationError),
    /// The server has no such stream.
    #[error("no such stream")]
    NotFound,
    /// The server refuses the stream.
    #[error("refused: {code}")]
    Refused {
        /// The status code: `NetStream.Publish.BadName`, or of HTTP `403`.
        code: String,
        /// The server's description, which may repeat secrets: for the client alone.
        description: String,
    },
    /// The stream would come back to a server that it has passed.
    #[error("a loop: the stream comes from there")]
    Loop,
    /// The server redirects to this URL, which may have secrets in its query.
    #[error("redirected")]
    Redirect {
        /// The URL, or over RTMP a tcUrl.
        url: String,
    },
    /// More redirects than are followed.
    #[error("redirected {times} times")]
    Redirects {
        /// Their number.
        times: usize,
    },
    /// It did not accept the request in time.
    #[error("no answer within {timeout:?}")]
    NoAnswer {
        /// The time that it had.
        timeout: Duration,
    },
    /// It accepted the connection, and did not answer the request in time: some servers hold requests for streams that nobody
    /// publishes.
    #[error("the request is not answered within {timeout:?}")]
    Silent {
        /// The time that it had.
        timeout: Duration,
    },
    /// It accepted the connection, and closed it instead of an answer: some servers refuse so.
    #[error("the server closed the connection instead of an answer")]
    Dropped,
    /// It sent no media, or took none, for too long.
    #[error("stalled for {timeout:?}")]
    Stalled {
        /// The time that it had.
        timeout: Duration,
    },
    /// It closed the connection without an end of the stream.
    #[error("the server closed the connection")]
    Closed,
    /// The connection broke.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It violates RTMP.
    #[error("{0}")]
    Session(#[from] SessionError),
    /// The name of the stream, or the hops to it, cannot be written in a request. Culprit: peer.
    #[error("the stream cannot be requested over HTTP")]
    InvalidRequest,
    /// It violates HTTP, or the connection broke.
    #[error("{0}")]
    Http(#[from] hyper::Error),
    /// It sends no FLV.
    #[error("{0}")]
    Flv(#[from] FlvError),
}
