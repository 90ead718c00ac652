//! Test kit: starts the built host and drives it with real clients.
