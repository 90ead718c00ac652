//! Certificates: by name, renewed in their files and by a reload, and those that cannot be used.

use std::path::Path;
use std::process::Command;

use remuxd_tests::capture::{Capture, End};
use remuxd_tests::host::{Config, Host, executable};
use remuxd_tests::publisher::{Numbered, Publisher};
use remuxd_tests::scratch::Scratch;
use remuxd_tests::tls::{self, Certificate, Files};
use remuxd_tests::tool::run;
use remuxd_tests::wait::{SOON, wait_until};

use crate::tls::start;

#[test]
fn each_vhost_presents_its_own_certificate() {
    let [default, a, b] =
        [&["default.example"][..], &["a.example"], &["b.example", "*.b.example"]].map(Certificate::of);
    let files = [&default, &a, &b].map(Files::of);
    let mut tables = files[0].listeners();
    for (name, files) in [("a.example", &files[1]), ("b.example", &files[2])] {
        tables += &format!("[vhost.\"{name}\".https]\n{}", files.toml());
    }
    let host = Host::start(&Config::live().tables(&tables));
    for address in [host.https.unwrap(), host.rtmps.unwrap()] {
        for (name, expected) in [
            (Some("a.example"), &a),
            (Some("A.EXAMPLE"), &a),
            (Some("b.example"), &b),
            (Some("x.b.example"), &b),
            (Some("x.a.example"), &default),
            (Some("other.example"), &default),
            (None, &default),
        ] {
            assert_eq!(tls::served_certificate(address, name).unwrap(), expected.der, "{name:?}");
        }
    }
}

#[test]
fn a_new_certificate_is_shown_and_viewers_stay() {
    let (host, files) = start();
    let key = host.key("reload");
    let publisher = Publisher::open(host.rtmp, &key).pace(Numbered::new(2000));
    let address = host.https.unwrap();
    let [old, new] = [(); 2].map(|()| Certificate::of(&["127.0.0.1"]));
    let shows =
        |certificate: &Certificate| tls::served_certificate(address, None).unwrap() == certificate.der;
    files.write(&old);
    wait_until(SOON, "the first new certificate is shown", || shows(&old));
    let viewer = Capture::wss(&host, &key);
    viewer.wait_access_units(10, SOON);

    // One file, then the other: no error.
    std::fs::write(files.key(), &new.key).unwrap();
    files.write(&new);
    wait_until(SOON, "the second new certificate is shown", || shows(&new));
    assert!(!host.log().contains("ERROR"), "{}", host.log());

    // Pairs that cannot be used.
    let other = Certificate::of(&["127.0.0.1"]);
    let half = new.cert[..new.cert.len() / 2].to_owned();
    for (cert, says) in
        [(&other.cert, "does not belong"), (&"garbage".into(), "holds no certificate"), (&half, "is damaged")]
    {
        std::fs::write(files.cert(), cert).unwrap();
        host.wait_log(&["ERROR", says, "[http_server.https]"]);
        assert!(shows(&new), "{says}");
    }
    std::fs::remove_file(files.cert()).unwrap();
    host.wait_log(&["ERROR", "cannot read", "[http_server.https]"]);
    assert!(shows(&new));

    // Each was logged once a listener, however often it was read.
    files.write(&old);
    wait_until(SOON, "the first is shown again", || shows(&old));
    host.wait_nth_log("ERROR", 2 * 4);

    // The viewer was not interrupted.
    let tags = viewer.tags();
    viewer.wait_until(SOON, "one more frame", |now| now.len() > tags.len());
    publisher.stop();
    let recording = viewer.finish(SOON);
    assert_eq!(recording.end, End::Clean);
    let numbers = Numbered::numbers(&recording.tags);
    assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{numbers:?}");
}

#[test]
fn a_reload_loads_certificates_from_other_files_and_viewers_stay() {
    let [old, new, vhost, bad] = [(); 4].map(|()| Certificate::of(&["127.0.0.1"]));
    let [old_files, new_files, vhost_files, bad_files] = [&old, &new, &vhost, &bad].map(Files::of);
    std::fs::write(bad_files.key(), &old.key).unwrap();
    let host = Host::start(&Config::live().tables(&old_files.listeners()));
    let (key, listeners) = (host.key("paths"), [host.https.unwrap(), host.rtmps.unwrap()]);
    let publisher = Publisher::open(host.rtmp, &key).pace(Numbered::new(2000));
    let viewer = Capture::wss(&host, &key);
    viewer.wait_access_units(10, SOON);
    let write = |listeners: &Files, vhost: &Files| {
        let of_vhost = format!("[vhost.\"a.example\".https]\n{}", vhost.toml());
        host.write_config(&Config::live().tables(&(listeners.listeners() + &of_vhost)).toml());
    };
    let shows = |default: &Certificate, a: &Certificate| {
        for (name, expected) in [(None, default), (Some("a.example"), a)] {
            let shown = listeners.map(|listener| tls::served_certificate(listener, name).unwrap());
            assert_eq!(shown, [(); 2].map(|()| expected.der.clone()), "{name:?}");
        }
    };
    shows(&old, &old);
    write(&new_files, &vhost_files);
    let printed = host.command(&["reload", "--dry-run"]);
    assert!(
        printed.status.success() && !String::from_utf8_lossy(&printed.stdout).contains("nothing has changed"),
        "{printed:?}"
    );
    shows(&old, &old);
    let printed = host.reload();
    assert!(printed.contains("reloaded in ") && !printed.contains("next start"), "{printed}");
    shows(&new, &vhost);
    for (listeners, of_vhost) in [(&bad_files, &vhost_files), (&old_files, &bad_files)] {
        write(listeners, of_vhost);
        let output = host.command(&["reload"]);
        let printed = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{printed}");
        let line = format!("cert = {:?}", bad_files.cert());
        assert!(
            printed.contains("does not belong to the certificate") && printed.contains(&line),
            "{printed}"
        );
        shows(&new, &vhost);
    }
    let tags = viewer.tags();
    viewer.wait_until(SOON, "one more frame", |now| now.len() > tags.len());
    publisher.stop();
    assert_eq!(viewer.finish(SOON).end, End::Clean);
}

#[test]
fn files_that_cannot_be_used_are_errors() {
    let files = Files::of(&Certificate::of(&["127.0.0.1"]));
    let toml = Config::live().tables(&files.listeners()).toml();
    let scratch = Scratch::new();
    let config = scratch.join("under-test.toml");
    std::fs::write(&config, &toml).unwrap();
    let check = |arguments: &[&str]| {
        let file = config.to_str().unwrap();
        let output = remuxd_tests::host::remuxd(&[arguments, &["--config", file]].concat());
        let printed = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.success(), printed)
    };
    assert!(check(&["check"]).0);
    std::fs::write(files.cert(), Certificate::of(&["127.0.0.1"]).cert).unwrap();
    for arguments in [&["check"][..], &[]] {
        let (success, printed) = check(arguments);
        assert!(!success && !printed.contains("listening "), "{printed}");
        for (index, line) in toml.lines().enumerate().filter(|(_, line)| line.starts_with("cert = ")) {
            assert!(
                printed.contains(&format!("under-test.toml:{}:", index + 1)) && printed.contains(line),
                "{printed}"
            );
        }
        assert!(printed.contains("does not belong to the certificate"), "{printed}");
    }
}

/// Runs `openssl` with `arguments` on an RSA key without a passphrase, and writes the result to `file`.
fn openssl(arguments: &[&str], from: &Path, file: &Path) {
    run(Command::new("openssl").args(arguments).arg("-in").arg(from).arg("-out").arg(file)).unwrap();
}

#[test]
fn special_files_and_encrypted_keys_are_reported() {
    let scratch = Scratch::new();
    let good = Files::of(&Certificate::of(&["127.0.0.1"]));
    let [rsa, fifo, long] = ["rsa.pem", "fifo", "long"].map(|name| scratch.join(name));
    let [pkcs8, traditional] = ["pkcs8.pem", "traditional.pem"].map(|name| scratch.join(name));
    run(Command::new("openssl").args(["genrsa", "-out"]).arg(&rsa).arg("2048")).unwrap();
    let encrypt = ["-aes128", "-passout", "pass:word"];
    openssl(&[&["pkey"], &encrypt[..]].concat(), &rsa, &pkcs8);
    openssl(&[&["rsa", "-traditional"], &encrypt[..]].concat(), &rsa, &traditional);
    run(Command::new("mkfifo").arg(&fifo)).unwrap();
    std::fs::write(&long, vec![b'x'; 2 << 20]).unwrap();
    let dir = scratch.path().to_owned();
    let (key, cert) = (good.key(), good.cert());
    for (key, cert, part, says) in [
        ("/dev/zero".into(), cert.clone(), "key", "not a regular file"),
        (fifo.clone(), cert.clone(), "key", "not a regular file"),
        (dir, cert.clone(), "key", "not a regular file"),
        (key.clone(), "/dev/zero".into(), "cert", "not a regular file"),
        (key.clone(), fifo, "cert", "not a regular file"),
        (key, long, "cert", "longer than 1048576 bytes"),
        (pkcs8, cert.clone(), "key", "is encrypted"),
        (traditional, cert, "key", "is encrypted"),
    ] {
        let table = format!("[http_server.https]\nenabled = true\nkey = {key:?}\ncert = {cert:?}\n");
        let toml = Config::live().tables(&table).toml();
        let file = scratch.join("under-test.toml");
        std::fs::write(&file, &toml).unwrap();
        let line = toml.lines().position(|line| line.starts_with(&format!("{part} = "))).unwrap() + 1;
        for arguments in [&["check"][..], &[]] {
            let mut command = Command::new("timeout");
            command.arg("20").arg(executable()).args(arguments).arg("--config").arg(&file);
            let output = command.output().unwrap();
            let printed = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
            assert_eq!(output.status.code(), Some(1), "{key:?} {cert:?}\n{printed}");
            assert!(
                printed.contains(says) && printed.contains(&format!("under-test.toml:{line}:")),
                "{printed}"
            );
            assert!(!printed.contains("listening "), "{printed}");
        }
    }
}
