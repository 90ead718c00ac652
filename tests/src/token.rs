//! JSON web tokens and MD5 links, made by openssl and by nothing of the host.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::scratch::Scratch;
use crate::secrets;

/// A key to sign tokens with.
#[derive(Debug)]
pub struct Signer {
    algorithm: &'static str,
    /// The shared secret of HS256.
    secret: String,
    scratch: Scratch,
}

impl Signer {
    /// HS256 with a shared secret.
    #[must_use]
    pub fn hs256(secret: &str) -> Signer {
        Signer { algorithm: "HS256", secret: secret.to_owned(), scratch: Scratch::new() }
    }

    /// RS256 with a new key of 2048 bits.
    #[must_use]
    pub fn rs256() -> Signer {
        Signer::generate("RS256", &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"])
    }

    /// ES256 with a new key.
    #[must_use]
    pub fn es256() -> Signer {
        Signer::generate("ES256", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"])
    }

    fn generate(algorithm: &'static str, arguments: &[&str]) -> Signer {
        let signer = Signer { algorithm, secret: String::new(), scratch: Scratch::new() };
        let private = signer.private_key();
        openssl(&[&["genpkey", "-out", private.to_str().expect("text")], arguments].concat(), &[]);
        let public = signer.public_key();
        let (private, public) = (private.to_str().expect("text"), public.to_str().expect("text"));
        openssl(&["pkey", "-in", private, "-pubout", "-out", public], &[]);
        signer
    }

    fn private_key(&self) -> PathBuf {
        self.scratch.join("private.pem")
    }

    /// Returns the path of the public key, a PEM file.
    #[must_use]
    pub fn public_key(&self) -> PathBuf {
        self.scratch.join("public.pem")
    }

    /// Returns the keys of the config's table of this key.
    #[must_use]
    pub fn toml(&self, id: &str) -> String {
        let key = match self.algorithm {
            "HS256" => format!("secret = {:?}", self.secret),
            _ => format!("public_key = {:?}", self.public_key()),
        };
        format!("id = \"{id}\"\nalgorithm = \"{}\"\n{key}\n", self.algorithm)
    }

    /// Returns the key as a member of a key set (RFC 7517).
    ///
    /// # Panics
    /// For HS256.
    #[must_use]
    pub fn jwk(&self, id: &str) -> String {
        let public = self.public_key();
        let public = public.to_str().expect("text");
        let der = openssl(&["pkey", "-pubin", "-in", public, "-outform", "DER"], &[]);
        match self.algorithm {
            // The point is the end of the DER: 4, x, y.
            "ES256" => {
                let (x, y) = der[der.len() - 64..].split_at(32);
                let (x, y) = (base64url(x), base64url(y));
                format!("{{\"kty\":\"EC\",\"crv\":\"P-256\",\"kid\":\"{id}\",\"x\":\"{x}\",\"y\":\"{y}\"}}")
            }
            // The end of the DER: 256 bytes, then the exponent 65537 with its tag and length.
            "RS256" => {
                let n = base64url(&der[der.len() - 261..der.len() - 5]);
                format!("{{\"kty\":\"RSA\",\"alg\":\"RS256\",\"kid\":\"{id}\",\"n\":\"{n}\",\"e\":\"AQAB\"}}")
            }
            _ => panic!("a shared secret has no public key"),
        }
    }

    /// Returns a token with these claims, JSON, and the id of this key.
    #[must_use]
    pub fn sign(&self, id: &str, claims: &str) -> String {
        let header = format!("{{\"alg\":\"{}\",\"kid\":\"{id}\",\"typ\":\"JWT\"}}", self.algorithm);
        let message = format!("{}.{}", base64url(header.as_bytes()), base64url(claims.as_bytes()));
        let private = self.private_key();
        let private = private.to_str().expect("text");
        let mac_key = format!("key:{}", self.secret);
        let arguments: &[&str] = match self.algorithm {
            "HS256" => &["dgst", "-sha256", "-binary", "-mac", "HMAC", "-macopt", &mac_key],
            _ => &["dgst", "-sha256", "-binary", "-sign", private],
        };
        let mut signature = openssl(arguments, message.as_bytes());
        if self.algorithm == "ES256" {
            signature = fixed(&signature);
        }
        secrets::remember(format!("{message}.{}", base64url(&signature)))
    }
}

/// Returns the MD5 of a text in base64url, as links of nginx's `secure_link` have it.
#[must_use]
pub fn md5(text: &str) -> String {
    secrets::remember(base64url(&openssl(&["dgst", "-md5", "-binary"], text.as_bytes())))
}

/// Returns the HMAC-SHA256 of a text in hexadecimal digits.
#[must_use]
pub fn hmac_sha256(secret: &str, text: &str) -> String {
    let key = format!("key:{secret}");
    hex(&openssl(&["dgst", "-sha256", "-binary", "-mac", "HMAC", "-macopt", &key], text.as_bytes()))
}

/// Returns the HMAC-SHA256 of bytes in base64url.
#[must_use]
pub fn hmac_sha256_base64url(secret: &str, bytes: &[u8]) -> String {
    let key = format!("key:{secret}");
    base64url(&openssl(&["dgst", "-sha256", "-binary", "-mac", "HMAC", "-macopt", &key], bytes))
}

/// Returns the SHA-256 of a text in hexadecimal digits.
#[must_use]
pub fn sha256(text: &str) -> String {
    hex(&openssl(&["dgst", "-sha256", "-binary"], text.as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the two numbers of an ECDSA signature in DER, 32 bytes each (RFC 7518, 3.4).
fn fixed(der: &[u8]) -> Vec<u8> {
    let number = |at: usize| {
        let len = usize::from(der[at + 1]);
        let digits = &der[at + 2..at + 2 + len];
        let start = digits.iter().position(|byte| *byte != 0).unwrap_or(digits.len());
        let mut fixed = vec![0; 32 - digits[start..].len()];
        fixed.extend_from_slice(&digits[start..]);
        (fixed, at + 2 + len)
    };
    let (r, at) = number(2);
    let (s, _) = number(at);
    [r, s].concat()
}

/// Returns base64 with padding (RFC 4648, 4).
#[must_use]
pub fn base64(bytes: &[u8]) -> String {
    let mut text = base64url(bytes).replace('-', "+").replace('_', "/");
    text.extend(std::iter::repeat_n('=', text.len().next_multiple_of(4) - text.len()));
    text
}

/// Base64url without padding (RFC 4648, 5).
fn base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let mut group = [0; 4];
        group[1..=chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes(group);
        for index in 0..=chunk.len() {
            text.push(ALPHABET[(bits >> (18 - 6 * index) & 63) as usize].into());
        }
    }
    text
}

fn openssl(arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut command = Command::new("openssl");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("openssl is installed");
    child.stdin.take().expect("stdin is a pipe").write_all(input).expect("openssl reads");
    let output = child.wait_with_output().expect("openssl ends");
    assert!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodes_base64url() {
        for (bytes, text) in [("", ""), ("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foob", "Zm9vYg")] {
            assert_eq!(base64url(bytes.as_bytes()), text);
        }
        assert_eq!(base64url(&[0xfb, 0xff]), "-_8");
        assert_eq!((base64(&[0xfb, 0xff]).as_str(), base64(b"f").as_str()), ("+/8=", "Zg=="));
    }
}
