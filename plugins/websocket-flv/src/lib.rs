//! The `websocket-flv` format module.
