//! What rustls needs to encrypt a captured stream: `seal --replay FILE --cert FILE --key FILE [--viewers 500] [--seconds 6]`
//!
//! Holds as many TLS connections in memory as there are viewers. For each batch it writes the batch into every connection in
//! turn and takes the records out into one buffer, without pause, for `--seconds`. So the record sizes are those of the stream,
//! and keys and states of many connections compete for the caches as in a server. Prints CPU seconds for a gigabyte of
//! plaintext as JSON.

use remuxd_bench::args::Args;
use remuxd_bench::{capture, clock, secure};
use rustix::time::{ClockId, clock_gettime};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConnection, ServerConfig, ServerConnection};
use std::io::{Error, Result, Write};
use std::sync::Arc;

fn main() -> Result<()> {
    let mut args = Args::from_env();
    let replay = args.take("replay", String::new());
    let (cert, key) = (args.take("cert", String::new()), args.take("key", String::new()));
    let viewers: usize = args.take("viewers", 500);
    let seconds: u64 = args.take("seconds", 6);
    args.finish();

    let batches = capture::read(&std::fs::read(replay)?)?;
    let certificates = CertificateDer::pem_file_iter(cert).map_err(Error::other)?;
    let certificates = certificates.collect::<std::result::Result<Vec<_>, _>>().map_err(Error::other)?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(Error::other)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(Error::other)?
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .map_err(Error::other)?;
    let config = Arc::new(config);
    let mut servers = (0..viewers).map(|_| shake_hands(&config)).collect::<Result<Vec<_>>>()?;

    let mut records = Vec::with_capacity(1 << 20);
    let (mut plain, mut sealed) = (0, 0);
    let end = clock::now() + seconds * clock::SECOND;
    let before = cpu();
    for batch in batches.iter().cycle() {
        for server in &mut servers {
            let mut rest = &batch.bytes[..];
            // The queue of a connection takes 64 KiB; what a server does with a larger batch is the same.
            while !rest.is_empty() {
                let taken = server.writer().write(rest)?;
                rest = &rest[taken..];
                records.clear();
                while server.wants_write() {
                    sealed += server.write_tls(&mut records)?;
                }
            }
            plain += batch.bytes.len();
        }
        if clock::now() >= end {
            break;
        }
    }
    let used = cpu() - before;
    let suite = servers[0].negotiated_cipher_suite().map(|suite| format!("{:?}", suite.suite()));
    println!(
        "{{\"cpu_s_per_gb\":{:.4},\"gigabytes\":{:.3},\"expansion\":{:.4},\"suite\":\"{}\"}}",
        used / plain as f64 * 1e9,
        plain as f64 / 1e9,
        sealed as f64 / plain as f64,
        suite.unwrap_or_default(),
    );
    Ok(())
}

/// A server's end of a connection whose handshake is over.
fn shake_hands(config: &Arc<ServerConfig>) -> Result<ServerConnection> {
    let name = ServerName::try_from("localhost").map_err(Error::other)?;
    let mut client = ClientConnection::new(secure::client()?, name).map_err(Error::other)?;
    let mut server = ServerConnection::new(config.clone()).map_err(Error::other)?;
    let mut wire = Vec::new();
    while client.is_handshaking() || server.is_handshaking() || server.wants_write() {
        wire.clear();
        while client.wants_write() {
            client.write_tls(&mut wire)?;
        }
        let mut rest = &wire[..];
        while !rest.is_empty() {
            server.read_tls(&mut rest)?;
            server.process_new_packets().map_err(Error::other)?;
        }
        wire.clear();
        while server.wants_write() {
            server.write_tls(&mut wire)?;
        }
        let mut rest = &wire[..];
        while !rest.is_empty() {
            client.read_tls(&mut rest)?;
            client.process_new_packets().map_err(Error::other)?;
        }
    }
    Ok(server)
}

/// CPU seconds of this process.
fn cpu() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
