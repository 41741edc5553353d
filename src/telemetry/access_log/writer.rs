//! The one thread that writes the access log: a slow or broken disk ends here.

use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::mpsc::SyncSender;
use std::time::Duration;
use std::time::Instant;

/// A block is full at this size.
pub(crate) const BLOCK_BYTES: usize = 64 << 10;

/// Room for the line that fills a block: an ordinary line does not make it grow.
const BLOCK_BYTES_SPARE: usize = 4 << 10;

/// How often the writer looks whether its file was moved away.
const ROTATION_LOOK: Duration = Duration::from_secs(1);

/// Whole lines of one shard on their way to the writer, and the empty block on its way back.
#[derive(Debug)]
pub(crate) struct Block {
    /// The shard it belongs to.
    pub(crate) owner: usize,
    pub(crate) bytes: Vec<u8>,
    pub(crate) lines: u64,
    /// Lines the writer could not write, told on the way back.
    pub(crate) lost: u64,
}

impl Block {
    pub(crate) fn new(owner: usize) -> Self {
        Self { owner, bytes: Vec::with_capacity(BLOCK_BYTES + BLOCK_BYTES_SPARE), lines: 0, lost: 0 }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.bytes.len() >= BLOCK_BYTES
    }
}

/// The writing end: the loop of one thread that boot starts.
#[derive(Debug)]
pub struct LogWriter {
    pub(crate) full: Receiver<Block>,
    /// By shard.
    pub(crate) spent: Vec<SyncSender<Block>>,
    pub(crate) output: Output,
}

impl LogWriter {
    /// Writes blocks until every shard's end is gone. A destination that fails is tried again with every block, and said so once;
    /// a file that was moved away is made anew within a second.
    #[expect(clippy::disallowed_methods, reason = "the writer is a thread of its own, with a clock of its own")]
    pub fn run(mut self) {
        let mut look_at = Instant::now() + ROTATION_LOOK;
        loop {
            match self.full.recv_timeout(ROTATION_LOOK) {
                Ok(block) => self.pass(block),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let now = Instant::now();
            if now >= look_at {
                self.output.follow_rotation();
                look_at = now + ROTATION_LOOK;
            }
        }
    }

    /// Writes one block and sends it back empty.
    pub(crate) fn pass(&mut self, mut block: Block) {
        block.lost = self.output.write(&block.bytes);
        block.lines = 0;
        block.bytes.clear();
        // A line of extreme length must not keep its memory for ever.
        block.bytes.shrink_to(BLOCK_BYTES + BLOCK_BYTES_SPARE);
        if let Some(owner) = self.spent.get(block.owner) {
            // A shard that is gone needs no blocks.
            drop(owner.try_send(block));
        }
    }
}

/// Where the lines go, and how that goes.
#[derive(Debug)]
pub(crate) struct Output {
    file: File,
    /// `None` for standard output.
    path: Option<PathBuf>,
    /// The last line was cut short: the next write begins with a line of its own.
    torn: bool,
    /// Lines lost since writing began to fail; said when it works again.
    lost: u64,
    /// That the file could not be made anew has been said.
    reopen_failing: bool,
}

impl Output {
    pub(crate) fn stdout() -> io::Result<Self> {
        // The descriptor itself: what standard output keeps back after an error would break a line later.
        let descriptor = io::stdout().as_fd().try_clone_to_owned()?;
        Ok(Self::new(File::from(descriptor), None))
    }

    pub(crate) fn append(path: &Path) -> io::Result<Self> {
        Ok(Self::new(open_for_append(path)?, Some(path.to_owned())))
    }

    fn new(file: File, path: Option<PathBuf>) -> Self {
        Self { file, path, torn: false, lost: 0, reopen_failing: false }
    }

    fn name(&self) -> String {
        self.path.as_ref().map_or_else(|| "standard output".to_owned(), |path| path.display().to_string())
    }

    /// Writes whole lines; returns how many of them were lost.
    pub(crate) fn write(&mut self, lines: &[u8]) -> u64 {
        let (written, outcome) = write_lines(&mut self.file, lines, &mut self.torn);
        match outcome {
            Ok(()) => {
                if self.lost > 0 {
                    tracing::info!(destination = self.name(), lost_lines = self.lost, "the access log is written again");
                    self.lost = 0;
                }
                0
            }
            Err(error) => {
                let lost = lines[written..].iter().filter(|byte| **byte == b'\n').count() as u64;
                if self.lost == 0 {
                    tracing::warn!(
                        destination = self.name(),
                        %error,
                        "the access log cannot be written: lines are dropped and counted until it can; free space there or choose another --access-log"
                    );
                }
                self.lost += lost;
                lost
            }
        }
    }

    /// Opens the path again if the open file is no longer what it names.
    pub(crate) fn follow_rotation(&mut self) {
        let Some(path) = &self.path else { return };
        let identity = |metadata: io::Result<std::fs::Metadata>| metadata.map(|metadata| (metadata.dev(), metadata.ino())).ok();
        if identity(std::fs::metadata(path)) == identity(self.file.metadata()) {
            return;
        }
        match open_for_append(path) {
            Ok(file) => {
                self.file = file;
                self.torn = false;
                self.reopen_failing = false;
            }
            Err(error) => {
                if !self.reopen_failing {
                    tracing::warn!(
                        destination = self.name(),
                        %error,
                        "the access log was moved away and cannot be made anew: lines go on to the moved file; let this user create the file"
                    );
                }
                self.reopen_failing = true;
            }
        }
    }
}

fn open_for_append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

/// Writes `lines` as far as it goes; returns how many bytes of them went. `torn` remembers from one call to the next that a line
/// was cut short.
fn write_lines(out: &mut impl Write, lines: &[u8], torn: &mut bool) -> (usize, io::Result<()>) {
    if *torn {
        if let Err(error) = out.write_all(b"\n") {
            return (0, Err(error));
        }
        *torn = false;
    }
    let mut written = 0;
    while written < lines.len() {
        match out.write(&lines[written..]) {
            Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
            Ok(count) => {
                written += count;
                *torn = lines[written - 1] != b'\n';
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (written, Err(error)),
        }
    }
    (written, Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A destination that takes as many bytes as it is told, call by call, and fails where it is told nothing.
    struct Scripted {
        takes: Vec<Option<usize>>,
        taken: Vec<u8>,
    }

    impl Write for Scripted {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = self.takes.remove(0).ok_or(io::ErrorKind::StorageFull)?.min(bytes.len());
            self.taken.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A line cut short by an error ends before the next one begins.
    #[test]
    fn a_torn_line_does_not_swallow_the_next() {
        let mut out = Scripted { takes: vec![Some(2), Some(2), None, None, Some(1), Some(99)], taken: Vec::new() };
        let mut torn = false;
        let (written, outcome) = write_lines(&mut out, b"one\ntwo\n", &mut torn);
        assert_eq!((written, outcome.is_err(), torn), (4, true, false));
        let (written, outcome) = write_lines(&mut out, b"three\n", &mut torn);
        assert_eq!((written, outcome.is_err(), torn), (0, true, false));
        out.takes = vec![Some(3), None, None, Some(1), Some(99)];
        assert_eq!(write_lines(&mut out, b"four\n", &mut torn).0, 3);
        assert!(torn);
        assert_eq!(write_lines(&mut out, b"five\n", &mut torn).0, 0);
        assert!(torn);
        assert_eq!(write_lines(&mut out, b"six\n", &mut torn).0, 4);
        assert_eq!(out.taken, b"one\nfou\nsix\n");
    }

    /// A full disk costs the lines it did not take, all of them counted, and nothing else.
    #[test]
    fn a_full_disk_costs_lines_and_counts_them() {
        let mut output = Output::append(Path::new("/dev/full")).expect("the device that is always full");
        assert_eq!(output.write(b"one\ntwo\n"), 2);
        assert_eq!(output.write(b"three\n"), 1);
        assert_eq!(output.lost, 3);
    }

    /// A log that was moved away or deleted is made anew under its name, and what is written meanwhile is not lost.
    #[test]
    fn a_rotated_file_is_made_anew() {
        let directory = std::env::temp_dir().join(format!("corelane-rotation-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a directory");
        let (path, moved) = (directory.join("access.log"), directory.join("access.log.1"));
        let mut output = Output::append(&path).expect("a file");
        output.write(b"one\n");
        output.follow_rotation();
        std::fs::rename(&path, &moved).expect("moved");
        output.write(b"two\n");
        output.follow_rotation();
        output.write(b"three\n");
        assert_eq!(std::fs::read_to_string(&moved).expect("text"), "one\ntwo\n");
        assert_eq!(std::fs::read_to_string(&path).expect("text"), "three\n");
        std::fs::remove_file(&path).expect("deleted");
        output.follow_rotation();
        output.write(b"four\n");
        assert_eq!(std::fs::read_to_string(&path).expect("text"), "four\n");
        // Where nothing can be made, the old file goes on.
        std::fs::remove_dir_all(&directory).expect("deleted");
        output.follow_rotation();
        assert_eq!(output.write(b"five\n"), 0);
        assert!(output.reopen_failing);
    }
}
