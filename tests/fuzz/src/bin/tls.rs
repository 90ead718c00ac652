//! The server's end of TLS with the host's settings and certificates: bytes of any kind, or those of a client with some of them
//! changed, have a result that does not depend on how they are cut, and an answer of bounded length.
//!
//! Input: a byte for the size of parts, then the bytes of a client; or, if its highest bit is set, a byte for the client, then
//! triples of an offset in what it sends and a byte that is combined with that one.
#![no_main]

use std::io::Read;
use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use remuxd::testing::conf::Config;
use remuxd::testing::net::in_memory::https_settings;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, ServerConfig, ServerConnection,
    SignatureScheme,
};

/// Longest answer, in bytes: a certificate, a key exchange, and tickets.
const MAX_ANSWER: usize = 16 << 10;

/// Rounds of a handshake.
const ROUNDS: usize = 8;

static SETTINGS: LazyLock<Arc<ServerConfig>> = LazyLock::new(|| {
    let names = ["a.example".to_owned(), "*.b.example".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).expect("valid names");
    let file = |name: &str, pem: String| {
        let path = std::env::temp_dir().join(format!("remuxd-fuzz-{}.{name}", std::process::id()));
        std::fs::write(&path, pem).expect("the directory is writable");
        path
    };
    let (key, cert) = (file("key", made.signing_key.serialize_pem()), file("crt", made.cert.pem()));
    let text = format!("[http_server.https]\nenabled = true\nkey = {key:?}\ncert = {cert:?}\n");
    let settings = https_settings(&Config::parse(&text, "fuzz.toml").expect("a config without errors"));
    for path in [key, cert] {
        std::fs::remove_file(path).expect("it was written");
    }
    settings.expect("a certificate")
});

/// The clients: versions of TLS, and ALPN protocols.
static CLIENTS: LazyLock<Vec<Arc<ClientConfig>>> = LazyLock::new(|| {
    let rows = [(&TLS13, &b"h2"[..]), (&TLS13, b"http/1.1"), (&TLS12, b"h2"), (&TLS12, b"none")];
    let client = |(version, protocol): (&'static _, &[u8])| {
        let mut client = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[version])
            .expect("a version of the provider")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Any))
            .with_no_client_auth();
        client.alpn_protocols = vec![protocol.to_vec()];
        Arc::new(client)
    };
    rows.map(client).into()
});

fuzz_target!(|data: &[u8]| match data {
    [step, wire @ ..] if step & 0x80 == 0 => {
        let whole = serve(wire, wire.len().max(1));
        assert_eq!(serve(wire, usize::from(*step) + 1), whole);
    }
    [_, client, changes @ ..] => converse(usize::from(*client), changes),
    _ => {}
});

/// Returns the error, whether the handshake goes on, and whether the server has answered.
fn serve(wire: &[u8], step: usize) -> (Option<Error>, bool, bool) {
    let mut server = ServerConnection::new(SETTINGS.clone()).expect("valid settings");
    let mut answer = Vec::new();
    let mut result = Ok(());
    for part in wire.chunks(step) {
        result = feed(&mut server, part, &mut answer);
        if result.is_err() {
            break;
        }
    }
    assert!(answer.len() <= MAX_ANSWER, "an answer of {} bytes", answer.len());
    (result.err(), server.is_handshaking(), !answer.is_empty())
}

/// Feeds bytes, and takes the answer and the plain text.
fn feed(server: &mut ServerConnection, mut part: &[u8], answer: &mut Vec<u8>) -> Result<(), Error> {
    let mut result = Ok(());
    while !part.is_empty() && result.is_ok() {
        server.read_tls(&mut part).expect("it has room, since all is processed");
        result = server.process_new_packets().map(drop);
        // Ends when there is no more.
        let _ = server.reader().read_to_end(&mut Vec::new());
    }
    while server.wants_write() {
        server.write_tls(answer).expect("a vector takes everything");
    }
    result
}

/// Lets a client open a connection and send a request, with changes to its bytes.
fn converse(client: usize, changes: &[u8]) {
    let client = client % CLIENTS.len();
    // The last one has no protocol in common with the server.
    let is_valid = changes.is_empty() && client + 1 < CLIENTS.len();
    let client = CLIENTS[client].clone();
    let name = ServerName::try_from("a.example").expect("a valid name");
    let mut client = ClientConnection::new(client, name).expect("a valid configuration");
    let mut server = ServerConnection::new(SETTINGS.clone()).expect("valid settings");
    let (mut sent, mut answered) = (0, 0);
    for round in 0..ROUNDS {
        if round == ROUNDS / 2 && !client.is_handshaking() {
            let _ = std::io::Write::write_all(&mut client.writer(), b"GET / HTTP/1.1\r\n\r\n");
            let _ = client.refresh_traffic_keys();
        }
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).expect("a vector takes everything");
        }
        for change in changes.chunks_exact(3) {
            let at = usize::from(u16::from_be_bytes([change[0], change[1]]));
            if let Some(byte) = at.checked_sub(sent).and_then(|at| wire.get_mut(at)) {
                *byte ^= change[2];
            }
        }
        sent += wire.len();
        let mut answer = Vec::new();
        let result = feed(&mut server, &wire, &mut answer);
        answered += answer.len();
        assert!(answered <= MAX_ANSWER, "answers of {answered} bytes");
        assert!(!is_valid || result.is_ok(), "{result:?}");
        let mut rest = &answer[..];
        while !rest.is_empty() {
            if client.read_tls(&mut rest).is_err() || client.process_new_packets().is_err() {
                return;
            }
        }
        if result.is_err() {
            return;
        }
    }
    assert!(!is_valid || !server.is_handshaking());
}

/// Accepts any certificate and signature: the server's are right.
#[derive(Debug)]
struct Any;

impl ServerCertVerifier for Any {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider().signature_verification_algorithms.supported_schemes()
    }
}
