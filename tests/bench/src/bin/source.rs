//! Publishes the bench's stream over RTMP in real time.
//!
//! `source --rtmp HOST:PORT [--app live] [--key bench] [--kbit 2000] [--gop 50] [--lifetime 600]`
//!
//! Prints `publishing` once the server has accepted. Every tag is sent when it is due, labelled with the instant just
//! before its write.

use remuxd_bench::args::Args;
use remuxd_bench::content::{self, Content};
use remuxd_bench::flv::{self, Amf0};
use remuxd_bench::rtmp::Publisher;
use remuxd_bench::{clock, essence, limit};

fn main() -> std::io::Result<()> {
    let mut args = Args::from_env();
    let address = args.take("rtmp", "127.0.0.1:1935".to_owned());
    let app = args.take("app", "live".to_owned());
    let key = args.take("key", "bench".to_owned());
    let (kbit, gop) = (args.take("kbit", 2000), args.take("gop", 50));
    limit::lifetime(args.take("lifetime", 600));
    args.finish();

    let mut publisher = Publisher::publish(&address, &app, &key)?;
    let mut metadata = Vec::new();
    Amf0::String("@setDataFrame").write(&mut metadata);
    metadata.extend(flv::metadata(&content::metadata()));
    publisher.message(flv::SCRIPT, 0, &metadata)?;
    publisher.message(flv::VIDEO, 0, &essence::video_config())?;
    publisher.message(flv::AUDIO, 0, &essence::audio_config())?;
    println!("publishing");

    let mut content = Content::new(clock::now(), kbit, gop);
    loop {
        clock::sleep_until(content.due());
        let tag = content.tag(clock::now());
        publisher.message(tag.kind, tag.timestamp, tag.body)?;
    }
}
