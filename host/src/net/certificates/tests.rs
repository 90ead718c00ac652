use std::os::unix::fs::symlink;
use std::path::PathBuf;

use super::*;
use crate::conf::CertificateFiles;

/// A pair in PEM: the key, then the certificate.
type Pem = [String; 2];

fn pair(names: &[&str]) -> Pem {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    [made.signing_key.serialize_pem(), made.cert.pem()]
}

/// A temporary directory, removed on drop.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Dir {
        let path = std::env::temp_dir().join(format!("remuxd-certificates-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Dir(path)
    }

    fn files(&self, name: &str) -> CertificateFiles {
        CertificateFiles { key: self.0.join(format!("{name}.key")), cert: self.0.join(format!("{name}.crt")) }
    }

    fn write(&self, name: &str, [key, cert]: &Pem) {
        std::fs::write(self.files(name).key, key).unwrap();
        std::fs::write(self.files(name).cert, cert).unwrap();
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A config: HTTPS with the files `listener`, and vhosts with files of their own.
fn config(dir: &Dir, listener: &str, vhosts: &[(&str, &str)]) -> String {
    let quoted = |path: PathBuf| toml::Value::from(path.to_str().unwrap()).to_string();
    let files = |name: &str| {
        let files = dir.files(name);
        format!("key = {}\ncert = {}\n", quoted(files.key), quoted(files.cert))
    };
    let mut text = format!("[http_server.https]\nenabled = true\n{}", files(listener));
    for (vhost, name) in vhosts {
        text += &format!("[vhost.\"{vhost}\".https]\n{}", files(name));
    }
    text
}

/// Reads the certificates of a config that are not in use yet.
fn read(text: &str, running: Option<&Certificates>) -> Result<NewCertificates, String> {
    let (config, mut diagnostics) = Config::read_text(text, "remuxd.toml");
    let new = NewCertificates::read(&config, running, &mut diagnostics);
    diagnostics.finish().map(|_| new).map_err(|errors| errors.to_string())
}

/// Loads the certificates of a config with the files `default` for HTTPS.
fn load(dir: &Dir, vhosts: &[(&str, &str)]) -> Result<Certificates, String> {
    read(&config(dir, "default", vhosts), None).map(Certificates::new)
}

/// Returns the first name in the certificate that a client gets who asks for `name`.
fn answer(certificates: &Certificates, name: Option<&str>) -> String {
    let resolver = certificates.resolvers.lock()[0].1.clone();
    let key = resolver.find(name);
    let certificate = webpki::EndEntityCert::try_from(&key.cert[0]).unwrap();
    let name = certificate.valid_dns_names().next().unwrap();
    name.to_owned()
}

#[test]
fn the_name_that_is_asked_for_decides() {
    let dir = Dir::new("names");
    dir.write("default", &pair(&["default.example", "www.wild.example"]));
    dir.write("a", &pair(&["in-a.example", "both.example"]));
    dir.write("b", &pair(&["in-b.example", "both.example", "a.example", "*.wild.example"]));
    let certificates = load(&dir, &[("A.example", "a"), ("b.example", "b")]).unwrap();
    for (name, expected) in [
        (None, "default.example"),
        (Some("unknown.example"), "default.example"),
        (Some("localhost"), "default.example"),
        (Some("default.example"), "default.example"),
        (Some("a.example"), "in-a.example"),
        (Some("b.example"), "in-b.example"),
        (Some("in-b.example"), "in-b.example"),
        (Some("both.example"), "in-a.example"),
        (Some("x.wild.example"), "in-b.example"),
        (Some("www.wild.example"), "default.example"),
        (Some("wild.example"), "default.example"),
        (Some("x.y.wild.example"), "default.example"),
    ] {
        assert_eq!(answer(&certificates, name), expected, "{name:?}");
    }
}

#[test]
fn nothing_is_read_without_tls() {
    let text = "[vhost.x.https]\nkey = \"/nowhere\"\ncert = \"/nowhere\"";
    let certificates = Certificates::new(read(text, None).unwrap());
    assert!(certificates.pairs.lock().is_empty() && certificates.resolver(&Owner::Https).is_none());
}

#[test]
fn files_that_cannot_be_used_are_reported_with_their_line() {
    let dir = Dir::new("errors");
    let (one, other) = (pair(&["one.example"]), pair(&["other.example"]));
    let half = |pem: &str| pem[..pem.len() / 2].to_owned();
    for (key, cert, line, says) in [
        (None, Some(one[1].clone()), 3, "cannot read"),
        (Some(one[0].clone()), None, 4, "cannot read"),
        (Some("garbage".into()), Some(one[1].clone()), 3, "holds no private key"),
        (Some(one[1].clone()), Some(one[1].clone()), 3, "holds no private key"),
        (Some(one[0].clone()), Some(one[0].clone()), 4, "holds no certificate"),
        (Some(half(&one[0])), Some(one[1].clone()), 3, "is damaged"),
        (Some(one[0].clone()), Some(half(&one[1])), 4, "is damaged"),
        (Some(one[0].clone()), Some(other[1].clone()), 4, "does not belong"),
    ] {
        let files = dir.files("default");
        for (path, text) in [(&files.key, key), (&files.cert, cert)] {
            let _ = std::fs::remove_file(path);
            text.into_iter().for_each(|text| std::fs::write(path, text).unwrap());
        }
        let report = load(&dir, &[]).unwrap_err();
        assert!(report.contains(&format!("remuxd.toml:{line}:")), "{report}");
        assert!(report.contains(says) && report.contains("error: 1 error"), "{says}: {report}");
    }
}

#[test]
fn a_missing_default_is_reported_with_its_table() {
    let text = "[http_server.https]\nenabled = true";
    let report = read(text, None).unwrap_err();
    assert!(report.contains("./conf/server.key") && report.contains("./conf/server.crt"), "{report}");
    assert!(report.contains("remuxd.toml:1:1") && report.contains("2 errors"), "{report}");
}

#[test]
fn a_new_pair_is_taken_and_a_bad_one_is_reported_once() {
    let dir = Dir::new("refresh");
    let [first, second, third] =
        [["first.example"], ["second.example"], ["third.example"]].map(|name| pair(&name));
    dir.write("default", &first);
    let certificates = load(&dir, &[]).unwrap();
    let files = dir.files("default");
    let look = |expected: &str, changes: &str| {
        let found = certificates.refresh();
        let found = found.iter().map(|change| match change {
            Change::Renewed(_) => 'N',
            Change::Rejected(..) => 'R',
        });
        assert_eq!(
            (found.collect::<String>(), answer(&certificates, None)),
            (changes.to_owned(), expected.to_owned())
        );
    };
    look("first.example", "");
    // One file after the other: no error while the second may still be written.
    std::fs::write(&files.cert, &second[1]).unwrap();
    look("first.example", "");
    std::fs::write(&files.key, &second[0]).unwrap();
    look("second.example", "N");
    look("second.example", "");
    // A mismatch that stays, then garbage, then a truncated file, then none.
    std::fs::write(&files.cert, &third[1]).unwrap();
    look("second.example", "");
    look("second.example", "R");
    look("second.example", "");
    std::fs::write(&files.cert, "garbage").unwrap();
    look("second.example", "");
    look("second.example", "R");
    std::fs::write(&files.cert, &third[1][..third[1].len() / 2]).unwrap();
    look("second.example", "");
    std::fs::remove_file(&files.cert).unwrap();
    look("second.example", "");
    look("second.example", "R");
    look("second.example", "");
    // The certificate in use comes back, and is removed again.
    std::fs::write(&files.cert, &second[1]).unwrap();
    look("second.example", "");
    std::fs::remove_file(&files.cert).unwrap();
    look("second.example", "");
    look("second.example", "R");
    dir.write("default", &third);
    look("third.example", "N");
}

#[test]
fn a_link_with_a_new_target_is_followed() {
    let dir = Dir::new("links");
    dir.write("1", &pair(&["first.example"]));
    dir.write("2", &pair(&["second.example"]));
    let point = |version: &str| {
        for extension in ["key", "crt"] {
            let (link, new) =
                (dir.0.join(format!("default.{extension}")), dir.0.join(format!("new.{extension}")));
            symlink(format!("{version}.{extension}"), &new).unwrap();
            std::fs::rename(new, link).unwrap();
        }
    };
    point("1");
    let certificates = load(&dir, &[]).unwrap();
    point("2");
    certificates.refresh();
    assert_eq!(answer(&certificates, None), "second.example");
}

#[test]
fn names_follow_the_certificate() {
    let dir = Dir::new("renamed");
    dir.write("default", &pair(&["default.example"]));
    dir.write("a", &pair(&["old.example"]));
    let certificates = load(&dir, &[("a.example", "a")]).unwrap();
    dir.write("a", &pair(&["new.example"]));
    certificates.refresh();
    for (name, expected) in
        [("old.example", "default.example"), ("new.example", "new.example"), ("a.example", "new.example")]
    {
        assert_eq!(answer(&certificates, Some(name)), expected);
    }
}

/// Adopts the certificates of another config. Returns whether any was new, or the errors.
fn reload(certificates: &Certificates, text: &str) -> Result<bool, String> {
    let new = read(text, Some(certificates))?;
    let has_new = new.has_new();
    certificates.adopt(new);
    Ok(has_new)
}

#[test]
fn a_reload_reads_files_at_other_paths() {
    let dir = Dir::new("elsewhere");
    for name in ["default", "other", "a", "b"] {
        dir.write(name, &pair(&[&format!("{name}.pem")]));
    }
    std::fs::write(dir.files("bad").key, "garbage").unwrap();
    let certificates = load(&dir, &[("a.example", "a")]).unwrap();
    let without = |text: &str| text.replace("enabled = true", "enabled = false");
    let unreadable = "[rtmps]\nenabled = true\nkey = \"/no/bad.key\"\ncert = \"/no/bad.crt\"\n";
    for (text, has_new, default, a, b) in [
        (config(&dir, "default", &[("a.example", "a")]), Some(false), "default", "a", "default"),
        (config(&dir, "other", &[("a.example", "a")]), Some(true), "other", "a", "other"),
        (config(&dir, "other", &[("a.example", "b")]), Some(true), "other", "b", "other"),
        (config(&dir, "other", &[("a.example", "a"), ("b.example", "b")]), Some(true), "other", "a", "b"),
        // All or nothing.
        (config(&dir, "default", &[("a.example", "bad")]), None, "other", "a", "b"),
        (config(&dir, "bad", &[("a.example", "b")]), None, "other", "a", "b"),
        (config(&dir, "other", &[]) + unreadable, None, "other", "a", "b"),
        (config(&dir, "default", &[]), Some(true), "default", "default", "default"),
    ] {
        let taken = reload(&certificates, &text);
        assert_eq!(taken.as_ref().ok(), has_new.as_ref(), "{taken:?}\n{text}");
        if let Err(errors) = taken {
            assert!(errors.contains("bad.crt") && errors.contains("remuxd.toml:"), "{errors}");
        }
        for (name, expected) in [(None, default), (Some("a.example"), a), (Some("b.example"), b)] {
            assert_eq!(answer(&certificates, name), format!("{expected}.pem"), "{name:?} of\n{text}");
        }
    }
    // A listener that is disabled has none, and reads one when it is enabled again.
    let text = config(&dir, "default", &[("a.example", "a")]);
    assert_eq!(reload(&certificates, &without(&text)), Ok(false));
    assert!(certificates.resolver(&Owner::Https).is_none() && certificates.pairs.lock().is_empty());
    assert_eq!(reload(&certificates, &text), Ok(true));
    assert_eq!(answer(&certificates, Some("a.example")), "a.pem");
    assert_eq!(reload(&certificates, &config(&dir, "default", &[])), Ok(false));
    // Only the files of the current config are polled.
    dir.write("other", &pair(&["late.pem"]));
    dir.write("a", &pair(&["late.pem"]));
    assert!(certificates.refresh().is_empty());
    dir.write("default", &pair(&["new.pem"]));
    assert_eq!(certificates.refresh().len(), 1);
    assert_eq!(answer(&certificates, None), "new.pem");
}

#[test]
fn a_reload_leaves_unchanged_paths_to_the_next_poll() {
    let dir = Dir::new("unchanged");
    dir.write("default", &pair(&["default.example"]));
    let certificates = load(&dir, &[]).unwrap();
    // Half of a new pair.
    std::fs::write(dir.files("default").cert, &pair(&["new.example"])[1]).unwrap();
    assert_eq!(reload(&certificates, &config(&dir, "default", &[])), Ok(false));
    assert_eq!(answer(&certificates, None), "default.example");
}
