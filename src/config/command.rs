//! The command line: which command, with which settings and arguments.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;

use clap::Parser;
use clap::error::ErrorKind;

use crate::config::file;
use crate::config::invocation::Demo;
use crate::config::invocation::Invocation;
use crate::config::invocation::Refusal;
use crate::config::invocation::Source;
use crate::config::resolve;
use crate::config::settings::Settings;
use crate::config::value::Address;
use crate::config::value::Field;
use crate::config::value::Shards;
use crate::config::value::Word;
use crate::demo;
use crate::explain::Output;
use crate::explain::Question;

/// The edge of a Kubernetes cluster: Ingress load balancer with one io_uring shard per core.
#[derive(Debug, Parser)]
#[command(name = "corelane", version, disable_version_flag = true, max_term_width = 120)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Serve the Ingresses of a directory or a cluster
    Run(WithFile),
    /// Serve built-in manifests with echo upstreams on loopback and print the curl lines to try
    Demo(DemoArguments),
    /// Parse and translate everything, print what is found, exit 1 if any finding is an error
    ///
    /// Takes the settings of `run`, so that the very line that is to be run can be checked first.
    Check {
        #[command(flatten)]
        settings: WithFile,
        /// What is printed. Default: text. One of: text, json
        #[arg(long, value_name = "FORMAT")]
        output: Option<Word<Output>>,
    },
    /// Say which rule a request would meet, why, and what would happen to it
    ///
    /// Takes the settings of `run`. Without --manifests and --kubeconfig, or with --admin, the running instance there is asked.
    Explain(ExplainArguments),
    /// Show shards, listeners, versions, upstream health and findings of a running instance
    Status {
        /// The admin endpoint of the instance. Default: 127.0.0.1:9900
        #[arg(long, value_name = "ADDR:PORT", env = "CORELANE_ADMIN")]
        admin: Option<Address>,
        /// What is printed. Default: text. One of: text, json
        #[arg(long, value_name = "FORMAT")]
        output: Option<Word<Output>>,
    },
    /// Print version, commit, features and crypto provider
    Version,
}

/// The settings, and the file that may hold more of them.
#[derive(Debug, clap::Args)]
struct WithFile {
    /// YAML file with settings: the names of the flags, `_` for `-`. Default: none
    #[arg(long, value_name = "FILE", env = "CORELANE_CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Debug, clap::Args)]
struct DemoArguments {
    /// Write the manifests here, and keep them, for reading and editing. Default: a directory that goes when the demo ends
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Plain listener. Default: 127.0.0.1:8080, or a free port
    #[arg(long, value_name = "ADDR:PORT")]
    http: Option<Address>,
    /// TLS listener. Default: 127.0.0.1:8443, or a free port
    #[arg(long, value_name = "ADDR:PORT")]
    https: Option<Address>,
    /// Health, metrics and inspection. Default: 127.0.0.1:9900, or a free port
    #[arg(long, value_name = "ADDR:PORT")]
    admin: Option<Address>,
    /// Number of shards, or the CPUs they are pinned to. Default: as `run`
    #[arg(long, value_name = "N|LIST")]
    shards: Option<Shards>,
    /// How much the program says about itself, on stderr. Default: warn. One of: off, error, warn, info, debug, trace
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<Word<crate::telemetry::program_log::Level>>,
}

#[derive(Debug, clap::Args)]
struct ExplainArguments {
    #[command(flatten)]
    settings: WithFile,
    /// GET, POST, ...
    #[arg(value_name = "METHOD")]
    method: String,
    /// `http://host[:port]/path?query`, or https
    #[arg(value_name = "URL")]
    url: String,
    /// A field of the request. Repeatable
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    fields: Vec<Field>,
    /// The address the request comes from. Default: 127.0.0.1
    #[arg(long, value_name = "IP")]
    client: Option<IpAddr>,
    /// What is printed. Default: text. One of: text, json
    #[arg(long, value_name = "FORMAT")]
    output: Option<Word<Output>>,
}

/// Reads a command line with its program name.
pub(super) fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Invocation, Refusal> {
    let line = match Line::try_parse_from(arguments) {
        Ok(line) => line,
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            return Ok(Invocation::Print(error.render().to_string()));
        }
        Err(error) => return Err(Refusal::Usage(error.render().to_string())),
    };
    match line.command {
        Command::Run(given) => resolve::run(merged(given)?).map(|run| Invocation::Run(Box::new(run))),
        Command::Demo(arguments) => Ok(Invocation::Demo(Box::new(demo_of(arguments)))),
        Command::Check { settings, output } => {
            let control = resolve::control(merged(settings)?)?;
            Ok(Invocation::Check { control: Box::new(control), output: output_of(output) })
        }
        Command::Explain(arguments) => explain(arguments),
        Command::Status { admin, output } => Ok(Invocation::Status { admin: admin.unwrap_or(resolve::ADMIN).0, output: output_of(output) }),
        Command::Version => Ok(Invocation::Version),
    }
}

fn merged(given: WithFile) -> Result<Settings, Refusal> {
    match given.config {
        Some(path) => Ok(given.settings.over(file::read(&path)?)),
        None => Ok(given.settings),
    }
}

fn output_of(given: Option<Word<Output>>) -> Output {
    given.map_or(Output::Text, |word| word.0)
}

fn demo_of(arguments: DemoArguments) -> Demo {
    let settings = Settings {
        log_level: Some(arguments.log_level.unwrap_or(Word(crate::telemetry::program_log::Level::WARN))),
        ..Settings::default()
    };
    Demo {
        scene: demo::Config {
            directory: arguments.dir,
            http: arguments.http.map(|address| address.0),
            https: arguments.https.map(|address| address.0),
            admin: arguments.admin.map(|address| address.0),
        },
        placement: arguments.shards.map(|shards| shards.0).unwrap_or_default(),
        log: resolve::log(&settings),
    }
}

fn explain(arguments: ExplainArguments) -> Result<Invocation, Refusal> {
    // An admin address in the file is where `run` would listen, not a wish to ask there.
    let asked = arguments.settings.settings.admin;
    let settings = merged(arguments.settings)?;
    let objects = !settings.manifests.is_empty() || settings.kubeconfig.is_some();
    let of = match asked {
        Some(address) => Source::Instance(address.0),
        None if objects => Source::Objects(Box::new(resolve::control(settings)?)),
        None => Source::Instance(settings.admin.unwrap_or(resolve::ADMIN).0),
    };
    let question = Question {
        method: arguments.method,
        url: arguments.url,
        fields: arguments.fields.into_iter().map(|field| (field.name, field.value)).collect(),
        client: arguments.client,
    };
    Ok(Invocation::Explain { of, question, output: output_of(arguments.output) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn given(line: &str) -> Settings {
        match Line::try_parse_from(line.split(' ')).expect("a valid line").command {
            Command::Run(with_file) => with_file.settings,
            _ => panic!("not run"),
        }
    }

    /// A flag beats the file, setting by setting; a list in one place replaces the list in the other.
    #[test]
    fn a_flag_beats_the_file() {
        let file = file::parse("shards: 2\nlog_level: debug\nhttp: [127.0.0.1:1, 127.0.0.1:2]\ncontroller: a\n").expect("valid settings");
        let settings = given("corelane run --shards 3 --http 127.0.0.1:3 --drain-timeout 9").over(file);
        assert_eq!(settings.shards, Some("3".parse().expect("a number")));
        assert_eq!(settings.http, ["127.0.0.1:3".parse::<Address>().expect("an address")]);
        assert_eq!(settings.drain_timeout, Some("9".parse().expect("seconds")));
        assert_eq!(settings.log_level, Some("debug".parse().expect("a level")));
        assert_eq!(settings.controller, ["a"]);
    }

    /// Every setting has a variable of its own name, a key in the file, and a default in its help.
    #[test]
    fn every_setting_has_three_spellings_and_a_default() {
        let line = Line::command();
        let run = line.find_subcommand("run").expect("run is a command");
        for argument in run.get_arguments().filter(|argument| !matches!(argument.get_id().as_str(), "help")) {
            let name = argument.get_id().as_str();
            assert_eq!(argument.get_long(), Some(name.replace('_', "-").as_str()), "{name}: flag");
            let variable = argument.get_env().map(|variable| variable.to_string_lossy().into_owned());
            assert_eq!(variable, Some(format!("CORELANE_{}", name.to_uppercase())), "{name}: variable");
            let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Default: "), "{name}: {help}");
            if name != "config" {
                let refusal = file::parse(&format!("{name}: {{}}")).expect_err("a map is no value");
                assert!(!refusal.contains("no setting"), "{name}: not in the file");
            }
        }
    }

    /// Only a wish on the command line asks a running instance when objects are named elsewhere.
    #[test]
    fn explain_asks_whom_it_was_told_to_ask() {
        for (line, instance) in [
            ("corelane explain GET http://h/", true),
            ("corelane explain --admin 127.0.0.1:1 --manifests m GET http://h/", true),
            ("corelane explain --manifests m GET http://h/", false),
        ] {
            let invocation = read(line.split(' ').map(OsString::from));
            let Ok(Invocation::Explain { of, .. }) = invocation else { panic!("{line}: {invocation:?}") };
            assert_eq!(matches!(of, Source::Instance(_)), instance, "{line}");
        }
    }

    /// Whatever is wrong with a line is a matter of usage.
    #[test]
    fn a_wrong_line_is_refused() {
        for line in
            ["corelane", "corelane serve", "corelane run --nope", "corelane run --shards 0", "corelane explain GET", "corelane run x"]
        {
            let refusal = read(line.split(' ').map(OsString::from));
            assert!(matches!(refusal, Err(Refusal::Usage(_))), "{line}: {refusal:?}");
        }
    }
}
