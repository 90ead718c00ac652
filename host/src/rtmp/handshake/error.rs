/// A failed handshake. The culprit is the peer; the connection must close.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// C0 or S0 asks for RTMPE.
    #[error("byte {offset}: encrypted RTMP (version {version})")]
    Encrypted {
        /// Offset of C0 or S0 in the connection.
        offset: u64,
        /// 6, 8 or 9.
        version: u8,
    },
    /// C0 or S0 has another version; 32 and above are not RTMP (5.2.2).
    #[error("byte {offset}: RTMP version {version}, not 3")]
    Version {
        /// Offset of C0 or S0 in the connection.
        offset: u64,
        /// The version.
        version: u8,
    },
    /// The proxy header before C0 is too long.
    #[error("byte {offset}: proxy header of {length} bytes, limit {limit}")]
    ProxyHeaderTooLong {
        /// Offset of the header in the connection.
        offset: u64,
        /// The length that it claims, in bytes.
        length: u16,
        /// The longest accepted, in bytes.
        limit: u16,
    },
}
