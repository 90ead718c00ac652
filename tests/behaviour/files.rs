//! Static files: which are served, and how.

use std::io::Read;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use remuxd_tests::capture::{Capture, End};
use remuxd_tests::host::{Config, Host, remuxd};
use remuxd_tests::http::{Request, Response};
use remuxd_tests::publisher::{Numbered, Publisher};
use remuxd_tests::scratch::Scratch;
use remuxd_tests::socket::connect_narrow;
use remuxd_tests::tool::run;
use remuxd_tests::wait::{SOON, wait_until};

/// A host that serves a directory with a secret beside it. A viewer of an unknown stream would wait long.
pub(crate) struct Site {
    pub host: Host,
    pub scratch: Scratch,
}

/// The secret's content.
const SECRET_TEXT: &str = "content outside the directory";

impl Site {
    pub(crate) fn start(files: &[(&str, &[u8])]) -> Site {
        let scratch = Scratch::new();
        std::fs::create_dir(scratch.join("root")).unwrap();
        std::fs::write(scratch.join("secret.txt"), SECRET_TEXT).unwrap();
        let config = Config::live().play("wait", "\"60s\"");
        let config = config.http("dir", &format!("{:?}", scratch.join("root").to_str().unwrap()));
        let site = Site { host: Host::start(&config), scratch };
        files.iter().for_each(|(name, content)| site.write(name, content));
        site
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.scratch.join("root").join(name)
    }

    fn write(&self, name: &str, content: &[u8]) {
        std::fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        std::fs::write(self.path(name), content).unwrap();
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.host.http)
    }

    pub(crate) fn get(&self, path: &str) -> Response {
        self.send(&Request::get(path))
    }

    pub(crate) fn send(&self, request: &Request) -> Response {
        request.send(self.host.http).unwrap()
    }

    /// Returns curl's report on a request, in the format of `write_out`.
    fn curl(&self, arguments: &[&str], write_out: &str, path: &str) -> String {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--max-time", "20", "--write-out", write_out]);
        let output = command.args(arguments).arg(self.url(path)).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

/// Returns the bytes of a body that ends cleanly.
pub(crate) fn whole(mut response: Response) -> Vec<u8> {
    let mut bytes = Vec::new();
    response.body.read_to_end(&mut bytes).unwrap();
    assert!(response.body.is_whole());
    bytes
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|index| (index % 251) as u8).collect()
}

#[test]
fn files_are_served_with_their_type_and_validators() {
    let big = pattern(3_000_000);
    let site = Site::start(&[
        ("index.html", b"<p>front"),
        ("sub/index.html", b"<p>sub"),
        ("sub/player.JS", b"play()"),
        ("with space & ü.txt", b"odd"),
        ("unknown.thing", &big),
        ("film.flv", b"FLV"),
        ("empty.txt", b""),
        (".well-known/acme-challenge/token", b"proof"),
    ]);
    let rows: [(&str, &str, &[u8]); 8] = [
        ("/", "text/html; charset=utf-8", b"<p>front"),
        ("/index.html?v=1", "text/html; charset=utf-8", b"<p>front"),
        ("/sub/", "text/html; charset=utf-8", b"<p>sub"),
        ("/sub/player.JS", "text/javascript; charset=utf-8", b"play()"),
        ("/with%20space%20&%20%C3%BC.txt", "text/plain; charset=utf-8", b"odd"),
        ("/unknown.thing", "application/octet-stream", &big),
        ("/film.flv", "video/x-flv", b"FLV"),
        ("/.well-known/acme-challenge/token", "application/octet-stream", b"proof"),
    ];
    for (path, media, content) in rows {
        let response = site.get(path);
        assert_eq!((response.status, response.header("content-type")), (200, Some(media)), "{path}");
        assert_eq!(response.header("content-length"), Some(&*content.len().to_string()), "{path}");
        assert_eq!(response.header("cache-control"), Some("no-cache"), "{path}");
        assert_eq!(response.header("accept-ranges"), Some("bytes"), "{path}");
        assert_eq!(response.header("vary"), None, "{path}");
        assert!(response.header("etag").is_some_and(|tag| tag.starts_with('"')), "{path}");
        assert!(response.header("last-modified").is_some(), "{path}");
        let headers = response.headers.clone();
        assert!(whole(response) == content, "{path}");

        let mut head = site.send(&Request::new("HEAD", path));
        let but_date = |headers: Vec<(String, String)>| -> Vec<_> {
            headers.into_iter().filter(|(name, _)| name != "date").collect()
        };
        assert_eq!(but_date(head.headers.clone()), but_date(headers), "{path}");
        assert_eq!(head.body.read(&mut [0; 16]).unwrap(), 0);
        for version in ["--http1.0", "--http2-prior-knowledge"] {
            let printed =
                site.curl(&[version, "--output", "/dev/null"], "%{http_code} %{size_download}", path);
            assert_eq!(printed, format!("200 {}", content.len()), "{version} {path}");
        }
        let head = site.curl(
            &["--http2-prior-knowledge", "--head", "--output", "/dev/null"],
            "%{http_code} %{exitcode}",
            path,
        );
        assert_eq!(head, "200 0", "{path}");
    }
    let empty = site.get("/empty.txt");
    assert_eq!((empty.status, empty.header("content-length")), (200, Some("0")));
    assert_eq!(site.send(&Request::new("POST", "/index.html").header("Content-Length", "0")).status, 405);
}

#[test]
fn a_directory_serves_its_index_after_a_redirect_to_the_slash() {
    let site = Site::start(&[("sub dir/index.html", b"<p>sub"), ("bare/file.txt", b"x")]);
    let redirect = site.get("/sub%20dir?a=%20b");
    assert_eq!((redirect.status, redirect.header("location")), (301, Some("/sub%20dir/?a=%20b")));
    assert_eq!(site.curl(&["--location", "--output", "/dev/null"], "%{http_code}", "/sub%20dir"), "200");
    for path in
        ["/bare/", "/bare/file.txt/", "/sub%20dir/index.html/", "//sub%20dir", "/sub%20dir//", "/none/"]
    {
        assert_eq!(site.get(path).status, 404, "{path}");
    }
}

#[test]
fn nothing_outside_the_directory_is_served() {
    let site = Site::start(&[
        ("inside.txt", b"inside"),
        ("dir/file.txt", b"file"),
        (".hidden", b"x"),
        (".git/config", b"x"),
    ]);
    let secret = site.scratch.join("secret.txt");
    symlink("inside.txt", site.path("alias.txt")).unwrap();
    symlink("../inside.txt", site.path("dir/up-alias.txt")).unwrap();
    symlink(&secret, site.path("absolute.txt")).unwrap();
    symlink("../secret.txt", site.path("relative.txt")).unwrap();
    symlink("../../root/../secret.txt", site.path("dir/winding.txt")).unwrap();
    symlink(site.scratch.path(), site.path("absolute-dir")).unwrap();
    symlink("..", site.path("relative-dir")).unwrap();
    symlink("/", site.path("slash")).unwrap();
    symlink("/proc/self/root", site.path("magic")).unwrap();
    symlink("loop", site.path("loop")).unwrap();
    symlink("absolute.txt", site.path("chain.txt")).unwrap();
    for (path, content) in [("/alias.txt", "inside"), ("/dir/up-alias.txt", "inside")] {
        let response = site.get(path);
        assert_eq!((response.status, &*whole(response)), (200, content.as_bytes()), "{path}");
    }
    let absolute = secret.to_str().unwrap();
    let paths = [
        "/../secret.txt",
        "/dir/../../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "/dir/..%2f..%2fsecret.txt",
        "/..%5csecret.txt",
        "/%252e%252e/secret.txt",
        "/dir/%00../../secret.txt",
        "/.../secret.txt",
        &format!("/{absolute}"),
        &format!("/{}", absolute.replace('/', "%2f")),
        "/absolute.txt",
        "/relative.txt",
        "/dir/winding.txt",
        "/chain.txt",
        "/absolute-dir/secret.txt",
        "/relative-dir/secret.txt",
        "/relative-dir",
        "/slash/etc/hostname",
        "/magic/etc/hostname",
        "/loop",
        "/.hidden",
        "/%2ehidden",
        "/.git/config",
        "/dir/.",
        "/.well-known",
    ];
    for path in paths {
        let response = site.get(path);
        assert!([400, 404].contains(&response.status), "{} for {path}", response.status);
        let text = response.text().unwrap();
        assert!(!text.contains(SECRET_TEXT), "{path}");
    }
}

#[test]
fn a_link_that_is_replaced_during_requests_never_leads_out() {
    let site = Site::start(&[("inside.txt", b"inside"), ("dir/secret.txt", b"inside")]);
    let (link, next) = (site.path("link.txt"), site.path("next"));
    let (dir_link, dir_next) = (site.path("links"), site.path("next-dir"));
    let until = Instant::now() + Duration::from_secs(3);
    let swap = |to: &str, next: &Path, link: &Path| {
        symlink(to, next).unwrap();
        std::fs::rename(next, link).unwrap();
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while Instant::now() < until {
                for (file, dir) in [("inside.txt", "dir"), ("../secret.txt", "..")] {
                    swap(file, &next, &link);
                    swap(dir, &dir_next, &dir_link);
                }
            }
        });
        let mut served = 0;
        while Instant::now() < until {
            for path in ["/link.txt", "/links/secret.txt"] {
                let response = site.get(path);
                match response.status {
                    200 => {
                        served += 1;
                        assert_eq!(whole(response), b"inside");
                    }
                    404 => {}
                    status => panic!("{status}"),
                }
            }
        }
        assert!(served > 0, "no response was served while the link was replaced");
    });
}

#[test]
fn only_regular_files_are_opened_and_none_blocks() {
    let site = Site::start(&[("file.txt", b"file")]);
    run(Command::new("mkfifo").arg(site.path("fifo.txt"))).unwrap();
    let _listener = UnixListener::bind(site.path("socket.txt")).unwrap();
    let asked = Instant::now();
    // More than the number of threads for blocking calls.
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..100 {
                    assert_eq!(site.get("/fifo.txt").status, 404);
                }
            });
        }
    });
    assert_eq!(site.get("/socket.txt").status, 404);
    assert_eq!(site.get("/file.txt").status, 200);
    assert!(asked.elapsed() < Duration::from_secs(20), "{:?}", asked.elapsed());
}

#[test]
fn conditional_requests_save_the_body() {
    let site = Site::start(&[("page.html", b"<p>page")]);
    let first = site.get("/page.html");
    let tag = first.header("etag").unwrap().to_owned();
    let modified = first.header("last-modified").unwrap().to_owned();
    let old = "Sun, 06 Nov 1994 08:49:37 GMT";
    let weak = format!("W/{tag}");
    let rows: [(&[(&str, &str)], u16); 11] = [
        (&[("If-None-Match", &tag)], 304),
        (&[("If-None-Match", &weak)], 304),
        (&[("If-None-Match", "\"x\"")], 200),
        (&[("If-Modified-Since", &modified)], 304),
        (&[("If-Modified-Since", old)], 200),
        (&[("If-None-Match", "\"x\""), ("If-Modified-Since", &modified)], 200),
        (&[("If-Match", &tag)], 200),
        (&[("If-Match", "\"x\"")], 412),
        (&[("If-Unmodified-Since", &modified)], 200),
        (&[("If-Unmodified-Since", old)], 412),
        (&[("If-Modified-Since", "not a date")], 200),
    ];
    for method in ["GET", "HEAD"] {
        for (headers, status) in rows {
            let request =
                headers.iter().fold(Request::new(method, "/page.html"), |request, (name, value)| {
                    request.header(name, value)
                });
            let response = site.send(&request);
            assert_eq!(response.status, status, "{method} {headers:?}");
            if status != 412 {
                assert_eq!(response.header("etag"), Some(&*tag), "{method} {headers:?}");
                assert_eq!(response.header("cache-control"), Some("no-cache"), "{method} {headers:?}");
            }
        }
    }
    // curl's own conditions: a file that it has, by time and by tag; then the file changes.
    let (page, tags) = (site.scratch.join("page"), site.scratch.join("tags"));
    let (page, tags) = (page.to_str().unwrap(), tags.to_str().unwrap());
    let by_time: &[&str] = &["--remote-time", "--output", page, "--time-cond", page];
    let by_tag: &[&str] = &["--etag-save", tags, "--etag-compare", tags, "--output", "/dev/null"];
    for expected in ["200 7", "304 0"] {
        assert_eq!(site.curl(by_tag, "%{http_code} %{size_download}", "/page.html"), expected);
    }
    std::fs::write(page, "").unwrap();
    assert_eq!(
        site.curl(by_time, "%{http_code} %{size_download}", "/page.html"),
        "304 0",
        "curl has a newer file"
    );
    site.write("page.html", b"<p>new page");
    assert_eq!(site.curl(by_tag, "%{http_code} %{size_download}", "/page.html"), "200 11");
}

#[test]
fn ranges_are_parts_of_the_file() {
    let content = pattern(300_000);
    let site = Site::start(&[("film.bin", &content), ("empty.bin", b"")]);
    let rows: [(&str, u16, &str, std::ops::Range<usize>); 8] = [
        ("bytes=0-0", 206, "bytes 0-0/300000", 0..1),
        ("bytes=100-199", 206, "bytes 100-199/300000", 100..200),
        ("bytes=299990-", 206, "bytes 299990-299999/300000", 299_990..300_000),
        ("bytes=299990-999999999", 206, "bytes 299990-299999/300000", 299_990..300_000),
        ("bytes=-10", 206, "bytes 299990-299999/300000", 299_990..300_000),
        ("bytes=0-", 200, "", 0..300_000),
        ("bytes=0-1,5-6", 200, "", 0..300_000),
        ("bytes=9-1", 200, "", 0..300_000),
    ];
    for (range, status, answered, part) in rows {
        let response = site.send(&Request::get("/film.bin").header("Range", range));
        assert_eq!(response.status, status, "{range}");
        assert_eq!(response.header("content-range").unwrap_or(""), answered, "{range}");
        assert_eq!(response.header("content-length"), Some(&*part.len().to_string()), "{range}");
        assert!(whole(response) == content[part], "{range}");
    }
    for (path, range) in
        [("/film.bin", "bytes=300000-"), ("/film.bin", "bytes=-0"), ("/empty.bin", "bytes=0-")]
    {
        let response = site.send(&Request::get(path).header("Range", range));
        assert_eq!(response.status, 416, "{path} {range}");
        let len = if path == "/empty.bin" { 0 } else { content.len() };
        assert_eq!(response.header("content-range"), Some(&*format!("bytes */{len}")));
    }
    let head = site.send(&Request::new("HEAD", "/film.bin").header("Range", "bytes=1-2"));
    assert_eq!((head.status, head.header("content-length")), (200, Some("300000")), "a range is for GET");
    let tag = head.header("etag").unwrap().to_owned();
    for (if_range, status) in [(&*tag, 206), ("\"x\"", 200)] {
        let request = Request::get("/film.bin").header("Range", "bytes=1-2").header("If-Range", if_range);
        assert_eq!(site.send(&request).status, status, "{if_range}");
    }

    // curl: ranges, and a download that is resumed.
    let file = site.scratch.join("part");
    let output = file.to_str().unwrap();
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        for (range, part) in [("5-9", 5..10), ("299999-", 299_999..300_000), ("-7", 299_993..300_000)] {
            let printed = site.curl(&[version, "-r", range, "--output", output], "%{http_code}", "/film.bin");
            assert_eq!(printed, "206", "{version} {range}");
            assert!(std::fs::read(&file).unwrap() == content[part], "{version} {range}");
        }
        std::fs::write(&file, &content[..123_456]).unwrap();
        assert_eq!(site.curl(&[version, "-C", "-", "--output", output], "%{http_code}", "/film.bin"), "206");
        assert!(std::fs::read(&file).unwrap() == content);
    }
}

#[test]
fn a_file_that_shrinks_never_ends_as_a_complete_response() {
    let site = Site::start(&[]);
    let (len, left) = (64 << 20, 8 << 20);
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let file = std::fs::File::create(site.path("film.bin")).unwrap();
        file.set_len(len).unwrap();
        let mut command = Command::new("curl");
        command.args(["--silent", version, "--limit-rate", "4M", "--max-time", "60", "--output"]);
        let output = site.scratch.join("download");
        let _ = std::fs::remove_file(&output);
        let mut curl = command.arg(&output).arg(site.url("/film.bin")).spawn().unwrap();
        let got = || std::fs::metadata(&output).map_or(0, |metadata| metadata.len());
        wait_until(SOON, "curl has something", || got() > 0);
        file.set_len(left).unwrap();
        let status = curl.wait().unwrap();
        // 18 is a partial file, 92 a stream that was reset.
        assert!(matches!(status.code(), Some(18 | 92)), "{version}: {status}");
        assert!(got() < len, "{version}");
    }
    // HTTP/1.0 has no other sign than the length.
    let file = std::fs::File::create(site.path("film.bin")).unwrap();
    file.set_len(len).unwrap();
    let mut response = Request::get("/film.bin").http10().send_over(connect_narrow(site.host.http)).unwrap();
    response.body.read_exact(&mut [0; 1000]).unwrap();
    file.set_len(left).unwrap();
    assert!(response.body.read_to_end(&mut Vec::new()).is_err() && !response.body.is_whole());
}

#[test]
fn a_file_that_grows_is_served_with_its_first_length() {
    let site = Site::start(&[("film.bin", &pattern(5_000_000))]);
    let mut response = Request::get("/film.bin").send_over(connect_narrow(site.host.http)).unwrap();
    let mut bytes = vec![0; 1000];
    response.body.read_exact(&mut bytes).unwrap();
    let mut longer = pattern(5_000_000);
    longer.extend_from_slice(&[0xff; 100_000]);
    site.write("film.bin", &longer);
    bytes.extend(whole(response));
    assert_eq!(bytes.len(), 5_000_000);
}

#[test]
fn stalled_downloads_hold_a_chunk_each() {
    const CLIENTS: usize = 100;
    let site = Site::start(&[]);
    std::fs::File::create(site.path("film.bin")).unwrap().set_len(1 << 30).unwrap();
    assert_eq!(site.send(&Request::get("/film.bin").header("Range", "bytes=0-9")).status, 206);
    let before = site.host.resident();
    let open = || Request::get("/film.bin").send_over(connect_narrow(site.host.http)).unwrap();
    let stalled: Vec<Response> = (0..CLIENTS).map(|_| open()).collect();
    assert!(stalled.iter().all(|response| response.status == 200));
    let grown = site.host.resident().saturating_sub(before) / CLIENTS as u64;
    assert!(grown < 400 << 10, "{} KiB a client", grown >> 10);
}

#[test]
fn a_live_stream_comes_before_a_file_and_a_file_before_the_wait() {
    let site = Site::start(&[("live/recorded.flv", b"a file")]);
    let key = site.host.key("both");
    site.write(&format!("{key}.flv"), b"a file");
    let asked = Instant::now();
    assert_eq!(whole(site.get("/live/recorded.flv")), b"a file");
    assert_eq!(whole(site.get(&site.host.path(&key))), b"a file");
    assert!(asked.elapsed() < Duration::from_secs(10), "it waited for a publisher");
    let mut publisher = Publisher::open(site.host.rtmp, &key);
    let mut media = Numbered::new(500);
    publisher.send(&media.headers());
    publisher.send(&media.frames(30));
    let live = Capture::http(&site.host, &key);
    live.wait_until(SOON, "the last frame", |tags| Numbered::numbers(tags).last() == Some(&29));
    drop(publisher);
    assert_eq!(live.finish(SOON).end, End::Clean);
    wait_until(SOON, "the file is back", || site.get(&site.host.path(&key)).header("etag").is_some());
}

#[test]
fn without_a_directory_no_file_is_served_and_a_path_to_none_is_an_error() {
    let host = Host::start(&Config::live().play("wait", "\"0s\""));
    for path in ["/", "/index.html", "/etc/hostname", "/Cargo.toml"] {
        assert_eq!(Request::get(path).send(host.http).unwrap().status, 404, "{path}");
    }
    let scratch = Scratch::new();
    let file = scratch.join("under-test.toml");
    for dir in [scratch.join("none"), file.clone()] {
        let line = format!("dir = {:?}", dir.to_str().unwrap());
        std::fs::write(&file, format!("[http_server]\nenabled = true\n{line}\n")).unwrap();
        let output = remuxd(&["check", "--config", file.to_str().unwrap()]);
        let printed = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(!output.status.success(), "{printed}");
        assert!(printed.contains("under-test.toml:3:7") && printed.contains(&line), "{printed}");
    }
}
