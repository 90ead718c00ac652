//! Joiners: viewers that come one after another, and leave after their first picture.

use remuxd_bench::viewer::Viewer;
use remuxd_bench::{clock, flv};
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::TcpStream;
use std::time::Duration;

const BUFFER: usize = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(5);

/// Runs `count` joiners one after another and returns the JSON line of their times.
pub fn run(address: &str, request: &str, count: usize, gap: u64) -> String {
    let (mut byte, mut picture, mut failed) = (Vec::new(), Vec::new(), 0);
    let mut buffer = vec![0; BUFFER];
    for _ in 0..count {
        match join(address, request, &mut buffer) {
            Ok((first_byte, first_picture)) => {
                byte.push(first_byte);
                picture.push(first_picture);
            }
            Err(error) => {
                eprintln!("load: join: {error}");
                failed += 1;
            }
        }
        std::thread::sleep(Duration::from_millis(gap));
    }
    format!("{{\"first_byte_us\":{byte:?},\"first_frame_us\":{picture:?},\"failed\":{failed}}}")
}

/// The microseconds to the first byte and to the first whole picture.
fn join(address: &str, request: &str, buffer: &mut [u8]) -> Result<(u64, u64)> {
    let start = clock::now();
    let elapsed = || (clock::now() - start) / 1000;
    let mut socket = TcpStream::connect(address)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.write_all(request.as_bytes())?;
    let mut viewer = Viewer::default();
    let mut first_byte = None;
    loop {
        let length = socket.read(buffer)?;
        let now = elapsed();
        if length == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let first_byte = *first_byte.get_or_insert(now);
        let mut picture = false;
        viewer
            .on_bytes(&buffer[..length], |arrival| picture |= arrival.kind == flv::VIDEO)
            .map_err(|fault| Error::other(format!("{fault:?}")))?;
        if picture {
            return Ok((first_byte, now));
        }
    }
}
