//! Publishes the bench's stream over RTMP in real time.
//!
//! `source --rtmp HOST:PORT [--app live] [--key bench] [--kbit 2000] [--gop 50] [--audio aac] [--count 1] [--lifetime 600]`
//!
//! Prints `publishing` once the server has accepted. Every tag is sent when it is due, labelled with the instant just
//! before its write. With a `--count` above 1 there are as many publishers, with keys `bench`, `bench1`, `bench2`; they begin
//! evenly over a picture's time, as independent encoders would.

use remuxd_bench::args::Args;
use remuxd_bench::content::{self, Audio, Content};
use remuxd_bench::flv::{self, Amf0};
use remuxd_bench::rtmp::Publisher;
use remuxd_bench::{clock, essence, limit};
use std::io::Result;

const STACK: usize = 64 << 10;

fn main() -> Result<()> {
    let mut args = Args::from_env();
    let address = args.take("rtmp", "127.0.0.1:1935".to_owned());
    let app = args.take("app", "live".to_owned());
    let key = args.take("key", "bench".to_owned());
    let (kbit, gop) = (args.take("kbit", 2000), args.take("gop", 50));
    let audio = args.take("audio", Audio::Aac);
    let count: u64 = args.take("count", 1);
    limit::lifetime(args.take("lifetime", 600));
    args.finish();
    limit::open_files();

    let publishers = (0..count)
        .map(|index| {
            let key = if index == 0 { key.clone() } else { format!("{key}{index}") };
            Publisher::publish(&address, &app, &key)
        })
        .collect::<Result<Vec<_>>>()?;
    println!("publishing");

    let start = clock::now();
    let mut threads = publishers.into_iter().enumerate().map(|(index, publisher)| {
        let start = start + index as u64 * content::FRAME / count;
        std::thread::Builder::new()
            .stack_size(STACK)
            .spawn(move || publish(publisher, Content::new(start, kbit, gop, audio)))
    });
    // The first one that ends, ends the process.
    let threads = threads.by_ref().collect::<Result<Vec<_>>>()?;
    for thread in threads {
        thread.join().map_err(|_| std::io::Error::other("a publisher panicked"))??;
    }
    Ok(())
}

/// Sends the stream until the server closes the connection.
fn publish(mut publisher: Publisher, mut content: Content) -> Result<()> {
    let mut metadata = Vec::new();
    Amf0::String("@setDataFrame").write(&mut metadata);
    metadata.extend(flv::metadata(&content.metadata()));
    publisher.message(flv::SCRIPT, 0, &metadata)?;
    publisher.message(flv::VIDEO, 0, &essence::video_config())?;
    if let Some(config) = content.audio_config() {
        publisher.message(flv::AUDIO, 0, &config)?;
    }
    loop {
        clock::sleep_until(content.due());
        let tag = content.tag(clock::now());
        publisher.message(tag.kind, tag.timestamp, tag.body)?;
    }
}
