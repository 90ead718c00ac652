//! The kinds of values that are secrets, keys or hashes.

use std::path::Path;

use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject;
use toml::Spanned;
use toml::de::DeValue;

use super::access::Secret;
use super::error::{SECRET, ValueError};
use super::file::read_file;
use super::value::{fault, text, wrong_type};

/// Limit of a file with a secret or a public key, in bytes.
const MAX_FILE: u64 = 64 << 10;

/// Reads a secret: a string, `{ file = "PATH" }` or `{ env = "NAME" }`. The end of a file's last line is no part of it.
pub(super) fn secret(value: &Spanned<DeValue>) -> Result<Secret, Vec<Spanned<ValueError>>> {
    if let Some(text) = value.get_ref().as_str() {
        return Ok(Secret::new(text.as_bytes().to_vec()));
    }
    let table = value.get_ref().as_table().filter(|table| table.len() == 1);
    let source = table.and_then(|table| table.iter().next());
    let Some((kind, name)) = source.and_then(|(kind, name)| Some((kind.get_ref(), name.get_ref().as_str()?)))
    else {
        return wrong_type(value, SECRET);
    };
    let unreadable = |reason: String| ValueError::Unreadable { name: name.to_owned(), reason };
    let read = match &**kind {
        "file" => read_file(Path::new(name), MAX_FILE).map_err(|error| unreadable(error.to_string())),
        "env" => match std::env::var_os(name) {
            Some(value) => Ok(value.into_encoded_bytes()),
            None => Err(unreadable("there is no such environment variable".to_owned())),
        },
        _ => return wrong_type(value, SECRET),
    };
    match read {
        Ok(mut bytes) => {
            let end = bytes.trim_ascii_end().len();
            bytes.truncate(end);
            Ok(Secret::new(bytes))
        }
        Err(error) => fault(value, error),
    }
}

/// Reads the public key of a PEM file, as SubjectPublicKeyInfo; an empty string is none.
pub(super) fn public_key(value: &Spanned<DeValue>) -> Result<Option<Vec<u8>>, Vec<Spanned<ValueError>>> {
    let name = text(value)?;
    if name.is_empty() {
        return Ok(None);
    }
    let pem = match read_file(Path::new(&name), MAX_FILE) {
        Ok(pem) => pem,
        Err(error) => return fault(value, ValueError::Unreadable { name, reason: error.to_string() }),
    };
    match SubjectPublicKeyInfoDer::from_pem_slice(&pem) {
        Ok(key) => Ok(Some(key.to_vec())),
        Err(_) => fault(value, ValueError::NotAPublicKey { name }),
    }
}

/// Reads a SHA-256 in hexadecimal digits; an empty string is none.
pub(super) fn sha256(value: &Spanned<DeValue>) -> Result<Option<[u8; 32]>, Vec<Spanned<ValueError>>> {
    let digits = text(value)?;
    if digits.is_empty() {
        return Ok(None);
    }
    let mut hash = [0; 32];
    let is_hash = digits.len() == 64 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    for (byte, at) in hash.iter_mut().zip((0..).step_by(2)) {
        match digits.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            Some(value) if is_hash => *byte = value,
            _ => return fault(value, ValueError::NotASha256),
        }
    }
    Ok(Some(hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_come_from_regular_files_of_limited_length() {
        let dir = std::env::temp_dir().join(format!("remuxd-secrets-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let file = |name: &str, len: usize| {
            std::fs::write(dir.join(name), vec![b'k'; len]).unwrap();
            dir.join(name).display().to_string()
        };
        let max = MAX_FILE as usize;
        let rows = [
            (file("fits", max), Ok(max)),
            (file("long", max + 1), Err("longer than 65536 bytes")),
            ("/dev/zero".to_owned(), Err("not a regular file")),
            (dir.display().to_string(), Err("not a regular file")),
        ];
        for (name, expected) in rows {
            let unreadable =
                |reason: &str| ValueError::Unreadable { name: name.clone(), reason: reason.to_owned() };
            let toml = format!("{{ file = {name:?} }}");
            let read = secret(&DeValue::parse(&toml).unwrap()).map_err(|faults| faults[0].get_ref().clone());
            assert_eq!(read.map(|secret| secret.bytes().len()), expected.map_err(unreadable));
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
