//! Every line that `corelane demo` prints answers as it says.

use std::io::BufRead;
use std::io::BufReader;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;

/// A running demo with what it has printed.
struct Demo {
    child: Child,
    invitation: Vec<String>,
}

/// What a line is said to print.
#[derive(Debug)]
enum Answer {
    Prints(String),
    Contains(String),
}

impl Demo {
    /// Starts on free ports and reads until the last line of the invitation.
    fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_corelane"))
            .env_clear()
            .args(["demo", "--http", "127.0.0.1:0", "--https", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut invitation = Vec::new();
        for line in BufReader::new(child.stdout.take().expect("a pipe")).lines() {
            let line = line.expect("text");
            let last = line.starts_with("Ctrl-C");
            invitation.push(line);
            if last {
                return Self { child, invitation };
            }
        }
        panic!("the demo ended before it invited anybody: {:?}", child.wait());
    }

    /// Where the manifests are.
    fn directory(&self) -> PathBuf {
        PathBuf::from(self.invitation[0].rsplit(' ').next().expect("a path"))
    }

    /// Every curl line with what it is said to print.
    fn lines(&self) -> Vec<(String, Answer)> {
        let pairs = self.invitation.iter().zip(self.invitation.iter().skip(1));
        pairs
            .filter(|(command, _)| command.starts_with("  curl "))
            .map(|(command, answer)| {
                let answer = match answer.trim_start().split_once(": ").expect("an answer") {
                    ("# prints", text) => Answer::Prints(text.to_owned()),
                    ("# contains", text) => Answer::Contains(text.to_owned()),
                    other => panic!("{other:?} is no answer"),
                };
                (command.trim().to_owned(), answer)
            })
            .collect()
    }

    /// The words of the line that shows this command, without the program.
    fn arguments_of(&self, command: &str) -> Vec<&str> {
        let shown = self.invitation.iter().find(|line| line.contains(&format!("corelane {command} ")));
        let line = shown.expect("the command is shown").trim_end_matches('`');
        line.split(' ').skip_while(|word| *word != command).collect()
    }

    /// Ctrl-C; the exit code.
    fn end(mut self) -> Option<i32> {
        let sent = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status().expect("kill");
        assert!(sent.success());
        self.child.wait().expect("an end").code()
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // After a failed assertion it still runs.
        let _ended_already = self.child.kill();
        let _reaped_already = self.child.wait();
    }
}

fn corelane(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_corelane")).env_clear().args(arguments).output().expect("the program starts")
}

/// Every curl line answers as it says, and Ctrl-C leaves nothing behind.
#[test]
fn every_line_answers_as_it_says() {
    let demo = Demo::start(&[]);
    let directory = demo.directory();
    let lines = demo.lines();
    assert!(lines.len() >= 12, "{:?}", demo.invitation);
    let mut wrong = Vec::new();
    for (line, answer) in lines {
        let output = Command::new("sh").args(["-c", &line]).output().expect("sh");
        let printed = String::from_utf8_lossy(&output.stdout);
        let right = match &answer {
            Answer::Prints(text) => printed.trim() == text.trim(),
            Answer::Contains(text) => printed.contains(text.as_str()),
        };
        if !right {
            wrong.push(format!("{line}\n  said {answer:?}\n  printed {printed}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for (command, told) in [("explain", "> Prefix /feed"), ("status", "blog/feed:80")] {
        let output = corelane(&demo.arguments_of(command));
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && printed.contains(told), "{command}: {printed}");
    }
    assert_eq!(demo.end(), Some(0));
    assert!(!directory.exists(), "{} was left behind", directory.display());
}

/// A directory that was asked for is kept, is not written over, and passes the check.
#[test]
fn a_directory_that_was_asked_for_is_kept() {
    let directory = std::env::temp_dir().join(format!("corelane-demo-test-{}", std::process::id()));
    let path = directory.to_string_lossy().into_owned();
    let demo = Demo::start(&["--dir", &path]);
    assert_eq!(demo.directory(), directory.canonicalize().expect("it exists"));
    assert_eq!(demo.end(), Some(0));
    let corelane =
        |arguments: &[&str]| Command::new(env!("CARGO_BIN_EXE_corelane")).env_clear().args(arguments).output().expect("it starts");
    let again = corelane(&["demo", "--dir", &path]);
    assert_eq!(again.status.code(), Some(78), "{}", String::from_utf8_lossy(&again.stderr));
    let check = corelane(&["check", "--manifests", &path]);
    assert_eq!(check.status.code(), Some(0), "{}", String::from_utf8_lossy(&check.stdout));
    std::fs::remove_dir_all(&directory).expect("the test's own");
}
