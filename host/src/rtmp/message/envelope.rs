use bytes::Bytes;

/// A message type id (5.4 and 7.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct MessageKind(pub u8);

macro_rules! message_kinds {
    ($($(#[$doc:meta])* $name:ident = $value:literal;)*) => {
        impl MessageKind {
            $($(#[$doc])* pub const $name: MessageKind = MessageKind($value);)*
        }

        impl std::fmt::Debug for MessageKind {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match *self {
                    $(MessageKind::$name => f.write_str(stringify!($name)),)*
                    MessageKind(other) => write!(f, "{other}"),
                }
            }
        }
    };
}

message_kinds! {
    /// Set Chunk Size (5.4.1).
    SET_CHUNK_SIZE = 1;
    /// Abort Message (5.4.2).
    ABORT = 2;
    /// Acknowledgement (5.4.3).
    ACKNOWLEDGEMENT = 3;
    /// User Control (6.2).
    USER_CONTROL = 4;
    /// Window Acknowledgement Size (5.4.4).
    WINDOW_ACK_SIZE = 5;
    /// Set Peer Bandwidth (5.4.5).
    SET_PEER_BANDWIDTH = 6;
    /// Audio (7.1.4).
    AUDIO = 8;
    /// Video (7.1.5).
    VIDEO = 9;
    /// Data in AMF3 (7.1.2).
    DATA_AMF3 = 15;
    /// Shared object in AMF3 (7.1.3).
    SHARED_OBJECT_AMF3 = 16;
    /// Command in AMF3 (7.1.1).
    COMMAND_AMF3 = 17;
    /// Data in AMF0 (7.1.2).
    DATA_AMF0 = 18;
    /// Shared object in AMF0 (7.1.3).
    SHARED_OBJECT_AMF0 = 19;
    /// Command in AMF0 (7.1.1).
    COMMAND_AMF0 = 20;
    /// Aggregate (7.1.6).
    AGGREGATE = 22;
}

/// One RTMP message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The message type.
    pub kind: MessageKind,
    /// In milliseconds, modulo 2³².
    pub timestamp: u32,
    /// The message stream: 0 for the connection itself, else a number that createStream returned.
    pub stream_id: u32,
    /// The message body.
    pub payload: Bytes,
}

impl Message {
    /// Bytes of memory that a message takes beside its body, from its first chunk until its tag leaves the rings: an
    /// estimate.
    pub const OVERHEAD: usize = 256;
}
