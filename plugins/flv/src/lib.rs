//! The `flv` format module.
