//! The access log: lines are made on the shard, collected in blocks, and written by one thread; a slow disk costs lines, never time.
//!
//! Each shard owns a fixed number of blocks. A full one goes to the writer through a channel that holds them all, and comes back
//! empty through another: nobody ever waits. A shard whose blocks are all under way drops lines until one is back.

mod line;
mod record;
mod writer;

pub use crate::telemetry::access_log::record::AccessRecord;
pub use crate::telemetry::access_log::record::Format;
pub use crate::telemetry::access_log::writer::LogWriter;

use std::fmt;
use std::path::PathBuf;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::SyncSender;
use std::sync::mpsc::TrySendError;
use std::sync::mpsc::sync_channel;

use crate::telemetry::access_log::line::LineWriter;
use crate::telemetry::access_log::writer::Block;
use crate::telemetry::access_log::writer::Output;

/// Blocks of one shard: 4 MiB, which bridge a stall of the disk of about 0.8 s at 10 000 requests a second. They are made as needed.
const BLOCKS_MAX: usize = 64;

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    Off,
    Stdout,
    File(PathBuf),
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Stdout => f.write_str("stdout"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// Opens the destination and makes one end for each shard; without a writer there is nothing to run.
///
/// # Errors
/// The file cannot be opened for appending.
pub fn open(destination: &Destination, format: Format, shards: usize) -> std::io::Result<(Option<LogWriter>, Vec<AccessLog>)> {
    let output = match destination {
        Destination::Off => return Ok((None, (0..shards).map(|_| AccessLog::off()).collect())),
        Destination::Stdout => Output::stdout()?,
        Destination::File(path) => Output::append(path)?,
    };
    let (full, to_write) = sync_channel(shards * BLOCKS_MAX);
    let (spent, logs) = (0..shards).map(|shard| AccessLog::on(shard, format, full.clone())).unzip();
    Ok((Some(LogWriter { full: to_write, spent, output }), logs))
}

/// One shard's end of the log.
#[derive(Debug, Default)]
pub struct AccessLog {
    on: Option<ShardLog>,
}

impl AccessLog {
    /// A log that writes nothing.
    pub fn off() -> Self {
        Self::default()
    }

    fn on(shard: usize, format: Format, full: SyncSender<Block>) -> (SyncSender<Block>, Self) {
        let (back, spent) = sync_channel(BLOCKS_MAX);
        let log = ShardLog {
            line: LineWriter::new(format),
            current: Block::new(shard),
            spare: Vec::with_capacity(BLOCKS_MAX),
            unmade: BLOCKS_MAX - 1,
            full,
            spent,
        };
        (back, Self { on: Some(log) })
    }

    /// Whether lines are wanted at all: a shard that is told no need not collect a record.
    pub fn is_on(&self) -> bool {
        self.on.is_some()
    }

    /// Formats one line into the current block; a full block goes to the writer. Returns lines dropped because the writer is behind,
    /// and lines of earlier blocks that it could not write.
    pub fn write(&mut self, record: &AccessRecord<'_>) -> u64 {
        self.on.as_mut().map_or(0, |log| log.write(record))
    }

    /// Hands the current block to the writer; called about ten times a second. Returns lines dropped, as [`write`](Self::write).
    pub fn flush(&mut self) -> u64 {
        self.on.as_mut().map_or(0, ShardLog::flush)
    }
}

/// The end of a shard whose log is on.
#[derive(Debug)]
struct ShardLog {
    line: LineWriter,
    current: Block,
    /// Empty blocks.
    spare: Vec<Block>,
    /// Blocks that may still be made.
    unmade: usize,
    full: SyncSender<Block>,
    spent: Receiver<Block>,
}

impl ShardLog {
    fn write(&mut self, record: &AccessRecord<'_>) -> u64 {
        let mut dropped = 0;
        // Full before the line is written: there was no empty block last time. The line is dropped before it costs anything.
        if self.current.is_full() {
            dropped += self.hand_on();
            if self.current.is_full() {
                return dropped + 1;
            }
        }
        self.line.push(&mut self.current.bytes, record);
        self.current.lines += 1;
        if self.current.is_full() {
            dropped += self.hand_on();
        }
        dropped
    }

    fn flush(&mut self) -> u64 {
        if self.current.lines == 0 { self.take_back() } else { self.hand_on() }
    }

    /// Sends the current block to the writer if there is an empty one to go on with. Returns lines that were lost.
    fn hand_on(&mut self) -> u64 {
        let mut lost = self.take_back();
        let Some(next) = self.spare.pop().or_else(|| self.make_block()) else { return lost };
        match self.full.try_send(std::mem::replace(&mut self.current, next)) {
            Ok(()) => {}
            // The writer is gone: its thread broke. Its channel is never full, for it holds every block there is.
            Err(TrySendError::Disconnected(mut block) | TrySendError::Full(mut block)) => {
                lost += block.lines;
                block.lines = 0;
                block.bytes.clear();
                self.spare.push(block);
            }
        }
        lost
    }

    fn make_block(&mut self) -> Option<Block> {
        self.unmade = self.unmade.checked_sub(1)?;
        Some(Block::new(self.current.owner))
    }

    /// Collects the blocks that are back. Returns lines that the writer lost.
    fn take_back(&mut self) -> u64 {
        let mut lost = 0;
        while let Ok(block) = self.spent.try_recv() {
            lost += block.lost;
            self.spare.push(block);
        }
        lost
    }
}

impl Drop for ShardLog {
    fn drop(&mut self) {
        if self.current.lines > 0 {
            // The last lines of a shard. If the writer is gone, nobody is left to count them either.
            let _gone = self.full.try_send(Block { bytes: std::mem::take(&mut self.current.bytes), ..self.current });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn record(path: &[u8]) -> AccessRecord<'_> {
        AccessRecord {
            at: SystemTime::UNIX_EPOCH,
            request_id: b"id",
            client: [127, 0, 0, 1].into(),
            client_port: 1,
            listener: "http/0.0.0.0:80",
            proto: "HTTP/1.1",
            tls_version: None,
            tls_cipher: None,
            sni: None,
            method: b"GET",
            host: b"example.com",
            path,
            status: 200,
            bytes_in: 0,
            bytes_out: 0,
            duration_us: 1,
            upstream: None,
            upstream_status: None,
            upstream_connect_us: None,
            upstream_first_byte_us: None,
            attempts: 0,
            namespace: "",
            ingress: "",
            service: "",
            user_agent: None,
            referer: None,
            flags: &[],
        }
    }

    /// A log in a file of its own, and the path of the file.
    fn open_file(name: &str, shards: usize) -> (LogWriter, Vec<AccessLog>, PathBuf) {
        let path = std::env::temp_dir().join(format!("corelane-access-log-{name}-{}", std::process::id()));
        let (writer, logs) = open(&Destination::File(path.clone()), Format::Json, shards).expect("a file");
        (writer.expect("a writer"), logs, path)
    }

    /// Runs the writer to its end and takes the file away.
    fn written(writer: LogWriter, path: &PathBuf) -> Vec<String> {
        writer.run();
        let text = std::fs::read_to_string(path).expect("text");
        std::fs::remove_file(path).expect("deleted");
        text.lines().map(str::to_owned).collect()
    }

    /// Lines of every shard arrive whole, those of a block that was never full with them.
    #[test]
    fn every_line_arrives() {
        let (writer, mut logs, path) = open_file("all", 3);
        for (shard, log) in logs.iter_mut().enumerate() {
            for number in 0..2000 {
                assert_eq!(log.write(&record(format!("/{shard}/{number}").as_bytes())), 0);
            }
        }
        assert_eq!(logs[0].flush(), 0);
        drop(logs);
        let lines = written(writer, &path);
        assert_eq!(lines.len(), 6000);
        for line in lines {
            assert!(serde_json::from_str::<serde_json::Value>(&line).is_ok(), "{line}");
        }
    }

    /// A writer that does not come costs lines: every one is counted, and what was in the blocks is still written.
    #[test]
    fn lines_are_dropped_and_counted_while_the_writer_is_behind() {
        let (writer, mut logs, path) = open_file("behind", 1);
        let long = vec![b'x'; 16 << 10];
        let dropped: u64 = (0..1000).map(|_| logs[0].write(&record(&long)) + logs[0].flush()).sum();
        assert!(dropped > 500, "{dropped}");
        // Every block is under way, but for the one that the last lines went into.
        let shard = logs[0].on.as_ref().expect("on");
        assert_eq!((shard.unmade, shard.spare.len()), (0, 0));
        drop(logs);
        assert_eq!(written(writer, &path).len() as u64, 1000 - dropped);
    }

    /// Once blocks are back, lines are written again, into the same blocks.
    #[test]
    fn blocks_come_back() {
        let (mut writer, mut logs, path) = open_file("back", 1);
        let long = vec![b'x'; writer::BLOCK_BYTES];
        let mut dropped = 0;
        for _ in 0..4 * BLOCKS_MAX {
            dropped += logs[0].write(&record(&long));
            while let Ok(block) = writer.full.try_recv() {
                writer.pass(block);
            }
        }
        assert_eq!(dropped, 0);
        assert!(logs[0].on.as_ref().expect("on").unmade >= BLOCKS_MAX - 3);
        drop(logs);
        assert_eq!(written(writer, &path).len(), 4 * BLOCKS_MAX);
    }

    /// What the writer could not write is told to the shard that counts it.
    #[test]
    fn lines_lost_by_the_writer_are_counted() {
        let (writer, mut logs) = open(&Destination::File("/dev/full".into()), Format::Text, 2).expect("the device that is always full");
        let mut writer = writer.expect("a writer");
        for log in &mut logs {
            assert_eq!(log.write(&record(b"/")) + log.write(&record(b"/")) + log.flush(), 0);
        }
        while let Ok(block) = writer.full.try_recv() {
            writer.pass(block);
        }
        assert_eq!(logs.iter_mut().map(AccessLog::flush).collect::<Vec<_>>(), [2, 2]);
        // A writer that is gone loses every line.
        drop(writer);
        assert_eq!(logs[0].write(&record(b"/")) + logs[0].flush(), 1);
    }

    /// A log that is off takes nothing and needs no writer; one that cannot be opened says so at once.
    #[test]
    fn off_is_off_and_a_bad_path_is_refused() {
        let (writer, logs) = open(&Destination::Off, Format::Json, 2).expect("nothing to open");
        assert!(writer.is_none() && logs.len() == 2 && logs.iter().all(|log| !log.is_on()));
        assert_eq!(AccessLog::off().write(&record(b"/")), 0);
        assert!(open(&Destination::File("/nonexistent/access.log".into()), Format::Json, 1).is_err());
        assert!(open(&Destination::Stdout, Format::Json, 1).expect("standard output").1[0].is_on());
    }
}
