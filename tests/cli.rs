//! The command line of the real program: exit codes, and messages that name the place and the cure.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;
use std::process::Output;

const USAGE: i32 = 64;
const PERMISSION: i32 = 77;
const CONFIGURATION: i32 = 78;

/// A command that inherits no setting.
fn corelane() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
    command.env_clear();
    command
}

/// A directory of its own for one test, gone when the test ends.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("corelane-cli-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, text).expect("a file");
        path.to_string_lossy().into_owned()
    }

    fn path(&self) -> String {
        self.0.to_string_lossy().into_owned()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _gone_already = std::fs::remove_dir_all(&self.0);
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn run(arguments: &[&str]) -> (Option<i32>, String) {
    let output = corelane().args(arguments).output().expect("the program starts");
    (output.status.code(), stderr(&output))
}

/// A line that makes no sense is a matter of usage, and says what is wrong with it.
#[test]
fn a_wrong_line_exits_64() {
    for (arguments, told) in [
        (&["run", "--nope"][..], "--nope"),
        (&["serve"][..], "serve"),
        (&["run", "--http", "80"][..], "`0.0.0.0:80`"),
        (&["run", "--drain-timeout", "5m"][..], "whole number"),
        (&["run", "--shards", "0"][..], "from 1 to 1024"),
        (&["run", "--annotations-prefix", ""][..], "no DNS name"),
        (&["run", "--publish-status-address", "not a host!"][..], "neither an IP address nor a host name"),
        (&["explain", "GET"][..], "URL"),
    ] {
        let (code, said) = run(arguments);
        assert_eq!(code, Some(USAGE), "{arguments:?}: {said}");
        assert!(said.contains(told), "{arguments:?}: {said}");
    }
}

/// Help is no failure, for the program and for every command.
#[test]
fn help_exits_0() {
    for arguments in [&["help"][..], &["--help"][..], &["help", "run"][..], &["run", "--help"][..], &["help", "demo"][..], &["version"][..]]
    {
        let output = corelane().args(arguments).output().expect("the program starts");
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(!output.stdout.is_empty() && output.stderr.is_empty(), "{arguments:?}");
    }
}

/// A configuration that cannot be used is told with file, line and cure.
#[test]
fn a_bad_configuration_exits_78() {
    let directory = Directory::new("config");
    for (name, text, told) in [
        ("key.yaml", "manifests: m\nhtpps: x\n", ":2: there is no setting `htpps`"),
        ("value.yaml", "\nshards: many\n", ":2: `many` is neither"),
        ("yaml.yaml", "http: [\n", ":"),
    ] {
        let file = directory.file(name, text);
        let (code, said) = run(&["run", "--config", &file]);
        assert_eq!(code, Some(CONFIGURATION), "{name}: {said}");
        assert!(said.contains(&format!("{file}{told}")), "{name}: {said}");
    }
    for (arguments, told) in [
        (&["run"][..], "--manifests DIR"),
        (&["check"][..], "--manifests DIR"),
        (&["run", "--config", "/does/not/exist"][..], "/does/not/exist"),
        (
            &["run", "--manifests", "/does/not/exist", "--http", "127.0.0.1:0", "--https", "127.0.0.1:0", "--admin", "127.0.0.1:0"][..],
            "/does/not/exist",
        ),
        (&["run", "--manifests", "/", "--kubeconfig", "k"][..], "remove one of them"),
        (&["run", "--manifests", "/", "--shards", "1023,"][..], "CPU 1023"),
    ] {
        let (code, said) = run(arguments);
        assert_eq!(code, Some(CONFIGURATION), "{arguments:?}: {said}");
        assert!(said.contains(told), "{arguments:?}: {said}");
    }
}

/// A variable sets what no flag sets, and a file sets what neither does.
#[test]
fn a_flag_beats_the_variable_which_beats_the_file() {
    let directory = Directory::new("precedence");
    // Each place names a CPU of its own that no machine has: the refusal tells which one was taken.
    let file = directory.file("c.yaml", "shards: '1001,'\nmanifests: /\n");
    for (flag, variable, taken) in
        [(Some("1003,"), Some("1002,"), "1003"), (None, Some("1002,"), "1002"), (Some("1003,"), None, "1003"), (None, None, "1001")]
    {
        let mut command = corelane();
        command.args(["run", "--config", &file]);
        if let Some(flag) = flag {
            command.args(["--shards", flag]);
        }
        if let Some(variable) = variable {
            command.env("CORELANE_SHARDS", variable);
        }
        let output = command.output().expect("the program starts");
        assert!(stderr(&output).contains(&format!("CPU {taken} ")), "{flag:?} {variable:?}: {}", stderr(&output));
    }
    let by_variable = corelane().env("CORELANE_CONFIG", &file).arg("run").output().expect("the program starts");
    assert!(stderr(&by_variable).contains("CPU 1001 "), "{}", stderr(&by_variable));
}

/// A port that somebody has is named, with the cure.
#[test]
fn a_port_in_use_is_named() {
    let directory = Directory::new("port");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().map(|address| (address.to_string(), taken)).expect("its address");
    for flag in ["--http", "--https", "--admin"] {
        let mut arguments = vec!["run".to_owned(), "--manifests".to_owned(), directory.path()];
        for other in ["--http", "--https", "--admin"] {
            let address = if other == flag { &*taken.0 } else { "127.0.0.1:0" };
            arguments.extend([other.to_owned(), address.to_owned()]);
        }
        let (code, said) = run(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(code, Some(1), "{flag}: {said}");
        assert!(said.contains(&taken.0) && said.contains("stop it or choose"), "{flag}: {said}");
    }
}

/// A limit that is too low is a missing permission, told before the first connection.
#[test]
fn a_limit_that_is_too_low_exits_77() {
    let directory = Directory::new("limits");
    for (limit, cure) in [("--memlock=65536:65536", "LimitMEMLOCK=infinity"), ("--nofile=128:128", "LimitNOFILE=")] {
        let output = Command::new("prlimit")
            .args([limit, env!("CARGO_BIN_EXE_corelane"), "run", "--manifests", &directory.path()])
            .args(["--http", "127.0.0.1:0", "--https", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .output()
            .expect("prlimit of util-linux");
        assert_eq!(output.status.code(), Some(PERMISSION), "{limit}: {}", stderr(&output));
        assert!(stderr(&output).contains(cure), "{limit}: {}", stderr(&output));
    }
}

/// A finding that is an error fails the check, in text and in JSON; warnings alone do not.
#[test]
fn check_fails_on_errors_only() {
    let good = Directory::new("check-good");
    good.file("class.yaml", "apiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: {name: corelane}\nspec: {controller: corelane.dev/ingress-controller}\n");
    let bad = Directory::new("check-bad");
    bad.file("broken.yaml", "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: [\n");
    for (directory, code) in [(&good, 0), (&bad, 1)] {
        for form in ["text", "json"] {
            let output =
                corelane().args(["check", "--manifests", &directory.path(), "--output", form]).output().expect("the program starts");
            let printed = String::from_utf8_lossy(&output.stdout);
            assert_eq!(output.status.code(), Some(code), "{printed}{}", stderr(&output));
            if form == "json" {
                let findings: serde_json::Value = serde_json::from_str(&printed).expect("JSON");
                assert_eq!(findings.as_array().is_some_and(|findings| !findings.is_empty()), code == 1, "{printed}");
            } else if code == 1 {
                assert!(printed.contains("broken.yaml"), "{printed}");
            }
        }
    }
}

/// Without an instance to ask, status and explain say where they looked.
#[test]
fn nobody_to_ask_is_said() {
    let nobody = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").to_string();
    for arguments in [&["status", "--admin", &nobody][..], &["explain", "--admin", &nobody, "GET", "http://h/"][..]] {
        let (code, said) = run(arguments);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(&nobody) && said.contains("--admin"), "{said}");
    }
}
