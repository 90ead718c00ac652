//! A publisher whose tags the test sends one by one.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::clip::Clip;
use crate::encoder::REPETITION;
use crate::flv::{AUDIO, Content, SCRIPT, Tag, VIDEO, read_file};
use crate::rtmp::{Amf, Connection, Message, SET_CHUNK_SIZE, split_key, with_token};
use crate::wait::{SOON, wait_for};

/// A connection that publishes a stream.
#[derive(Debug)]
pub struct Publisher {
    connection: Connection,
    stream: u32,
}

impl Publisher {
    /// Publishes `key`, without media yet.
    ///
    /// # Panics
    /// When the host refuses.
    #[must_use]
    pub fn open(address: SocketAddr, key: &str) -> Publisher {
        let (publisher, status) = Publisher::try_open(address, key).expect("the host answers");
        assert_eq!(status, "NetStream.Publish.Start");
        publisher
    }

    /// Publishes `key` once the host has noticed that the previous publisher left.
    ///
    /// # Panics
    /// When the host keeps refusing.
    #[must_use]
    pub fn reopen(address: SocketAddr, key: &str) -> Publisher {
        wait_for(SOON, "the stream is free again", || {
            let (publisher, status) = Publisher::try_open(address, key).expect("the host answers");
            (status == "NetStream.Publish.Start").then_some(publisher)
        })
    }

    /// Requests to publish `key`, and returns the status code of the answer.
    ///
    /// # Errors
    /// The socket's.
    pub fn try_open(address: SocketAddr, key: &str) -> io::Result<(Publisher, String)> {
        Publisher::try_open_over(TcpStream::connect(address)?, key)
    }

    /// As [`Publisher::try_open`], on an open socket.
    ///
    /// # Errors
    /// The socket's.
    pub fn try_open_over(socket: TcpStream, key: &str) -> io::Result<(Publisher, String)> {
        let (app, name) = split_key(key);
        let mut connection = Connection::over(socket)?;
        connection.connect(app)?;
        let payload = 65536_u32.to_be_bytes().to_vec();
        connection.write(2, &Message { kind: SET_CHUNK_SIZE, stream: 0, timestamp: 0, payload })?;
        let stream = connection.create_stream()?;
        let status = connection.publish(stream, &with_token(name))?;
        Ok((Publisher { connection, stream }, status))
    }

    /// Requests to publish `key`, and does not wait for the answer.
    ///
    /// # Panics
    /// When the host closes the connection.
    #[must_use]
    pub fn open_without_waiting(address: SocketAddr, key: &str) -> Publisher {
        let (app, name) = split_key(key);
        let open = || -> io::Result<Publisher> {
            let mut connection = Connection::open(address)?;
            connection.connect(app)?;
            let stream = connection.create_stream()?;
            connection.command(stream, "publish", &[Amf::Null, name.into(), "live".into()])?;
            Ok(Publisher { connection, stream })
        };
        open().expect("the host takes the request")
    }

    /// Returns the publisher of a message stream of a connection that has requested to publish.
    #[must_use]
    pub fn of(connection: Connection, stream: u32) -> Publisher {
        Publisher { connection, stream }
    }

    /// Sends a tag.
    ///
    /// # Errors
    /// The socket's.
    pub fn try_send(&mut self, tag: &Tag) -> io::Result<()> {
        let chunk_stream = match tag.kind {
            AUDIO => 4,
            VIDEO => 6,
            _ => 5,
        };
        let message = Message {
            kind: tag.kind,
            stream: self.stream,
            timestamp: tag.timestamp,
            payload: tag.payload.clone(),
        };
        self.connection.write(chunk_stream, &message)
    }

    /// Sends tags at once.
    ///
    /// # Panics
    /// When the host has closed.
    pub fn send<'a>(&mut self, tags: impl IntoIterator<Item = &'a Tag>) {
        for tag in tags {
            self.try_send(tag).expect("the host takes the stream");
        }
    }

    /// Returns the connection.
    pub fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// Publishes a clip in real time, again and again, on a thread, until [`Pace::stop`].
    #[must_use]
    pub fn repeat(mut self, clip: Clip) -> Pace {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let stop_before = Arc::new(AtomicU32::new(ANY));
        let last = Arc::clone(&stop_before);
        let is_frame = |tag: &Tag| matches!(tag.content(), Content::AccessUnit(_));
        let (frames, headers): (Vec<Tag>, Vec<Tag>) = read_file(&clip.path()).into_iter().partition(is_frame);
        let thread = std::thread::spawn(move || {
            let start = Instant::now();
            // Not the end of sequence, which comes last.
            self.send(headers.iter().filter(|tag| tag.timestamp == 0));
            let (mut pictures, mut in_gop) = (0, 0);
            for round in 0.. {
                for tag in &frames {
                    let timestamp = tag.timestamp + round * REPETITION.as_millis() as u32;
                    let due = start + Duration::from_millis(timestamp.into());
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    let last = last.load(Ordering::Relaxed);
                    let may_stop = last == ANY || tag.kind == VIDEO && in_gop == last;
                    if may_stop && stopped.load(Ordering::Relaxed) {
                        return pictures;
                    }
                    self.send([&Tag { timestamp, ..tag.clone() }]);
                    in_gop = if tag.is_keyframe() { 0 } else { in_gop };
                    pictures += u32::from(tag.kind == VIDEO);
                    in_gop += u32::from(tag.kind == VIDEO);
                }
            }
            pictures
        });
        Pace { stop, stop_before, thread }
    }

    /// Publishes numbered media in real time, on a thread, until [`Pace::stop`].
    #[must_use]
    pub fn pace(mut self, mut media: Numbered) -> Pace {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let start = Instant::now();
            self.send(&media.headers());
            let first = media.time();
            while !stopped.load(Ordering::Relaxed) {
                self.send(&media.frame());
                let due = start + Duration::from_millis(u64::from(media.time() - first));
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            media.next
        });
        Pace { stop, stop_before: Arc::default(), thread }
    }
}

/// A publisher on a thread of its own.
#[derive(Debug)]
pub struct Pace {
    stop: Arc<AtomicBool>,
    stop_before: Arc<AtomicU32>,
    thread: JoinHandle<u32>,
}

/// [`Publisher::repeat`] may stop before any tag.
const ANY: u32 = u32::MAX;

impl Pace {
    /// Stops a repeated clip before picture `number` of a GOP, whose keyframe has the number 0, after the audio before it.
    /// Returns the number of video frames that were sent.
    ///
    /// # Panics
    /// When the host closed the publisher.
    pub fn stop_before(self, number: u32) -> u32 {
        self.stop_before.store(number, Ordering::Relaxed);
        self.stop()
    }

    /// Stops publishing, and returns the number of video frames that were sent.
    ///
    /// # Panics
    /// When the host closed the publisher.
    pub fn stop(self) -> u32 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the host took the stream to its end")
    }
}

/// Synthetic H.264 and AAC with real decoder configurations; each video frame carries its number.
#[derive(Clone, Debug)]
pub struct Numbered {
    headers: Vec<Tag>,
    frame_bytes: usize,
    next: u32,
}

impl Numbered {
    /// Milliseconds between video frames.
    pub const STEP: u32 = 40;
    /// Number of frames from a keyframe to the next.
    pub const GOP: u32 = 25;

    /// Returns media with video frames of about `frame_bytes` bytes.
    #[must_use]
    pub fn new(frame_bytes: usize) -> Numbered {
        let mut headers = read_file(&Clip::H264Aac.path());
        headers.retain(|tag| matches!(tag.content(), Content::Script | Content::SequenceHeader));
        let metadata = headers.iter_mut().find(|tag| tag.kind == SCRIPT).expect("clips have metadata");
        // As encoders send it: in a `@setDataFrame` message.
        metadata.payload.splice(..0, *b"\x02\x00\x0d@setDataFrame");
        Numbered { headers, frame_bytes, next: 0 }
    }

    /// Returns the same media with this AudioSpecificConfig.
    ///
    /// # Panics
    /// Never in practice.
    #[must_use]
    pub fn with_audio_config(mut self, config: &[u8]) -> Numbered {
        let is_header = |tag: &&mut Tag| tag.kind == AUDIO && tag.content() == Content::SequenceHeader;
        let header = self.headers.iter_mut().find(is_header).expect("the clip has AAC");
        header.payload.splice(2.., config.iter().copied());
        self
    }

    /// Returns the same media, whose first frame has this number, a multiple of [`Numbered::GOP`].
    #[must_use]
    pub fn starting_at(mut self, number: u32) -> Numbered {
        self.next = number;
        self
    }

    /// Returns metadata and both decoder configurations.
    #[must_use]
    pub fn headers(&self) -> Vec<Tag> {
        self.headers.clone()
    }

    /// Returns the time of the next frame in milliseconds.
    #[must_use]
    pub fn time(&self) -> u32 {
        self.next * Self::STEP
    }

    /// Returns the number of the next frame.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.next
    }

    /// Returns the next video frame and its two audio frames.
    pub fn frame(&mut self) -> Vec<Tag> {
        let (number, time) = (self.next, self.time());
        self.next += 1;
        let keyframe = number.is_multiple_of(Self::GOP);
        let nal_size = self.frame_bytes.max(16) as u32;
        let mut video = vec![if keyframe { 0x17 } else { 0x27 }, 1, 0, 0, 0];
        video.extend_from_slice(&nal_size.to_be_bytes());
        video.push(if keyframe { 0x65 } else { 0x41 });
        // Seven bits in each byte, and the eighth set, so that no number contains a start code.
        video.extend([21, 14, 7, 0].map(|shift| 0x80 | (number >> shift) as u8));
        video.resize(5 + 4 + nal_size as usize, 0x55);
        let audio = |n: u32| {
            let mut payload = vec![0xaf, 1];
            payload.extend_from_slice(&(number * 2 + n).to_be_bytes());
            Tag { kind: AUDIO, timestamp: time + n * (Self::STEP / 2), payload }
        };
        vec![Tag { kind: VIDEO, timestamp: time, payload: video }, audio(0), audio(1)]
    }

    /// Returns the next `count` video frames with their audio.
    pub fn frames(&mut self, count: u32) -> Vec<Tag> {
        (0..count).flat_map(|_| self.frame()).collect()
    }

    /// Returns the number of a served tag, if it is a numbered video frame.
    #[must_use]
    pub fn number_of(tag: &Tag) -> Option<u32> {
        tag.access_unit().filter(|unit| unit.kind == VIDEO)?;
        Numbered::number_in(&tag.payload)
    }

    /// Returns the number in the payload of a numbered video frame.
    #[must_use]
    pub fn number_in(payload: &[u8]) -> Option<u32> {
        let bytes = payload.get(10..14)?;
        Some(bytes.iter().fold(0, |number, byte| number << 7 | u32::from(byte & 0x7f)))
    }

    /// Returns the number of a served tag, if it is a numbered audio frame. Each video frame has two of them.
    #[must_use]
    pub fn audio_number_of(tag: &Tag) -> Option<u32> {
        tag.access_unit().filter(|unit| unit.kind == AUDIO)?;
        tag.payload.get(2..6)?.try_into().ok().map(u32::from_be_bytes)
    }

    /// Returns the numbers of the served video frames.
    #[must_use]
    pub fn numbers(tags: &[Tag]) -> Vec<u32> {
        tags.iter().filter_map(Numbered::number_of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_carry_their_numbers() {
        let mut media = Numbered::new(1000);
        assert_eq!(media.headers().len(), 3);
        let tags = media.frames(30);
        assert_eq!(Numbered::numbers(&tags), (0..30).collect::<Vec<_>>());
        assert!(tags[0].is_keyframe() && tags[25 * 3].is_keyframe() && !tags[3].is_keyframe());
    }
}
