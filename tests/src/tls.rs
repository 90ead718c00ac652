//! Certificates made for a test, and a TLS client that accepts any certificate.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme, StreamOwned,
    SupportedProtocolVersion,
};

use crate::scratch::Scratch;
use crate::wait::SILENCE;

/// A self-signed certificate and its key.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The private key as PEM.
    pub key: String,
    /// The certificate as PEM.
    pub cert: String,
    /// The certificate as DER.
    pub der: Vec<u8>,
}

impl Certificate {
    /// Creates a certificate for these names, wildcards (`*.`) or addresses.
    ///
    /// # Panics
    /// When a name is not valid in a certificate.
    #[must_use]
    pub fn of(names: &[&str]) -> Certificate {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let generated = rcgen::generate_simple_self_signed(names).expect("tests use valid names");
        Certificate {
            key: generated.signing_key.serialize_pem(),
            cert: generated.cert.pem(),
            der: generated.cert.der().to_vec(),
        }
    }
}

/// A certificate authority.
#[derive(Debug)]
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    /// Creates an authority with a key of its own.
    ///
    /// # Panics
    /// Never in practice.
    #[must_use]
    pub fn new(name: &str) -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("aws-lc generates keys");
        Authority(CertifiedIssuer::self_signed(params, key).expect("an authority signs itself"))
    }

    /// Issues a certificate for these names or addresses.
    ///
    /// # Panics
    /// When a name is not valid in a certificate.
    #[must_use]
    pub fn issue(&self, names: &[&str]) -> Certificate {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().expect("aws-lc generates keys");
        let params = CertificateParams::new(names).expect("tests use valid names");
        let cert = params.signed_by(&key, &self.0).expect("the authority can sign");
        Certificate { key: key.serialize_pem(), cert: cert.pem(), der: cert.der().to_vec() }
    }

    /// Returns the authority's own certificate as PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        self.0.pem()
    }
}

/// A key file and a certificate file.
#[derive(Debug, Default)]
pub struct Files(Scratch);

impl Files {
    /// Writes `certificate` to new files.
    #[must_use]
    pub fn of(certificate: &Certificate) -> Files {
        let files = Files::default();
        files.write(certificate);
        files
    }

    /// Replaces the certificate file, then the key file.
    ///
    /// # Panics
    /// When the scratch directory is not writable.
    pub fn write(&self, certificate: &Certificate) {
        std::fs::write(self.cert(), &certificate.cert).expect("the scratch directory is writable");
        std::fs::write(self.key(), &certificate.key).expect("the scratch directory is writable");
    }

    /// Returns the path of the private key.
    #[must_use]
    pub fn key(&self) -> PathBuf {
        self.0.join("server.key")
    }

    /// Returns the path of the certificate.
    #[must_use]
    pub fn cert(&self) -> PathBuf {
        self.0.join("server.crt")
    }

    /// Returns the config keys `key` and `cert` with these files.
    #[must_use]
    pub fn toml(&self) -> String {
        format!("key = {:?}\ncert = {:?}\n", self.key(), self.cert())
    }

    /// Returns the config tables that enable HTTPS and RTMPS with these files.
    #[must_use]
    pub fn listeners(&self) -> String {
        let keys = format!("enabled = true\nlisten = \"127.0.0.1:0\"\n{}", self.toml());
        format!("[http_server.https]\n{keys}[rtmps]\n{keys}")
    }
}

/// A TLS version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

/// An open connection.
pub type Stream = StreamOwned<ClientConnection, TcpStream>;

/// Connects and performs the handshake, with `name` as the server name if there is one.
///
/// # Errors
/// The socket's, or the handshake's.
pub fn connect(address: SocketAddr, name: Option<&str>) -> io::Result<Stream> {
    connect_with(address, name, Version::Tls13, &[])
}

/// As [`connect`], with a TLS version and ALPN protocols.
///
/// # Errors
/// As [`connect`].
pub fn connect_with(
    address: SocketAddr,
    name: Option<&str>,
    version: Version,
    protocols: &[&[u8]],
) -> io::Result<Stream> {
    let socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(SILENCE))?;
    handshake(socket, name, version, protocols)
}

/// As [`connect_with`], on an open socket.
///
/// # Errors
/// As [`connect`].
pub fn handshake(
    mut socket: TcpStream,
    name: Option<&str>,
    version: Version,
    protocols: &[&[u8]],
) -> io::Result<Stream> {
    let config = client_config(name.is_some(), version, protocols);
    let name = ServerName::try_from(name.unwrap_or("unnamed").to_owned()).map_err(io::Error::other)?;
    let mut connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    while connection.is_handshaking() {
        connection.complete_io(&mut socket)?;
    }
    Ok(StreamOwned::new(connection, socket))
}

/// Returns the client configuration of [`connect`].
///
/// # Panics
/// Never in practice.
#[must_use]
pub fn client_config(sends_name: bool, version: Version, protocols: &[&[u8]]) -> ClientConfig {
    static TLS12_ONLY: &[&SupportedProtocolVersion] = &[&TLS12];
    static TLS13_ONLY: &[&SupportedProtocolVersion] = &[&TLS13];
    let provider = Arc::new(aws_lc_rs::default_provider());
    let versions = if version == Version::Tls12 { TLS12_ONLY } else { TLS13_ONLY };
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)
        .expect("aws-lc knows both versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    config.enable_sni = sends_name;
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    config
}

/// Returns the first flight of a client.
///
/// # Panics
/// Never in practice.
#[must_use]
pub fn client_hello() -> Vec<u8> {
    let config = client_config(false, Version::Tls13, &[]);
    let name = ServerName::try_from("unnamed").expect("a valid name");
    let mut client = ClientConnection::new(Arc::new(config), name).expect("a valid configuration");
    let mut hello = Vec::new();
    client.write_tls(&mut hello).expect("a vector takes everything");
    hello
}

/// Connects with the server name `name`, and returns the certificate that the server sends.
///
/// # Errors
/// As [`connect`].
pub fn served_certificate(address: SocketAddr, name: Option<&str>) -> io::Result<Vec<u8>> {
    let stream = connect(address, name)?;
    let sent = stream.conn.peer_certificates().and_then(<[_]>::first);
    Ok(sent.map(|certificate| certificate.to_vec()).unwrap_or_default())
}

/// A verifier that accepts any certificate whose key the server has.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
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
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            cert,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            cert,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
