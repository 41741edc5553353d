//! The door: arguments in, tables out.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::Args;
use clap::Parser;
use clap::Subcommand;
use corelane_bench::apart::Apart;
use corelane_bench::apart::Post;
use corelane_bench::clock::Clock;
use corelane_bench::compare;
use corelane_bench::compare::Results;
use corelane_bench::compare::Settings;
use corelane_bench::cpu;
use corelane_bench::diff;
use corelane_bench::diff::Question;
use corelane_bench::driver::Span;
use corelane_bench::floor;
use corelane_bench::floor::Mode;
use corelane_bench::hgrm;
use corelane_bench::host;
use corelane_bench::host::Host;
use corelane_bench::html;
use corelane_bench::preflight;
use corelane_bench::progress::Progress;
use corelane_bench::report;
use corelane_bench::scenario::Load;
use corelane_bench::schedule::Arrivals;
use corelane_bench::sweep;
use corelane_bench::sweep::Climb;
use corelane_bench::table;
use signal_hook::consts::SIGINT;
use signal_hook::consts::SIGTERM;

/// Exit status where a comparison of two runs found the subject worse.
const WORSE: u8 = 1;
/// Exit status where nothing could be said.
const FAILED: u8 = 2;

/// Open-loop load, an upstream to answer it, and a fair comparison of the proxies between them.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// One proxy under one scenario; the tables go to standard output
    Run {
        /// A file of `load/` without its ending
        scenario: String,
        /// A directory of `peers/`
        #[arg(long, default_value = "corelane")]
        peer: String,
        #[command(flatten)]
        how: How,
    },
    /// Several proxies in interleaved rounds; what came out goes to `results/`
    Compare {
        /// Files of `load/` without their ending; all of them, if none is named
        scenarios: Vec<String>,
        /// Directories of `peers/`, the subject first; a name given twice is measured against itself
        #[arg(long, value_delimiter = ',', default_value = "corelane,corelane,nginx,haproxy")]
        peers: Vec<String>,
        #[command(flatten)]
        how: How,
    },
    /// Rates upwards until no proxy can carry more, and the knee of each; written like a comparison
    Sweep {
        /// A file of `load/` without its ending
        scenario: String,
        /// Directories of `peers/`
        #[arg(long, value_delimiter = ',', default_value = "corelane,nginx,haproxy")]
        peers: Vec<String>,
        /// Requests per second of the first rung; each next one asks for a quarter more
        #[arg(long, default_value_t = 2000.0, value_parser = rate)]
        from: f64,
        /// A proxy whose p99.9 is longer, in microseconds, climbs no further
        #[arg(long)]
        slo_us: Option<f64>,
        /// Times the span around each knee is halved
        #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(..=10))]
        bisections: u32,
        #[command(flatten)]
        how: How,
    },
    /// What of this host moves figures, and the cure for each; reads only
    Preflight {
        /// As JSON instead of a table
        #[arg(long)]
        json: bool,
    },
    /// What this host's limit is: the relays that no proxy can be below, alone; the table goes to standard output
    Floor {
        /// A file of `load/` without its ending
        #[arg(default_value = "keepalive-1k")]
        scenario: String,
        #[command(flatten)]
        how: How,
    },
    /// Runs the proxies or the upstream of comparisons that are driven from another host
    Agent(Post),
    /// Renders a results file anew: page, report and distributions beside it
    Report {
        /// A `.json` file of `results/`
        results: PathBuf,
    },
    /// Holds one results file against another; exit status 1 where the subject has got worse, 2 where that cannot be told
    Diff {
        /// A `.json` file of `results/`
        before: PathBuf,
        /// A later one
        after: PathBuf,
        /// The peer of both that changes are reckoned against; nginx or any other but the floor, if not given
        #[arg(long)]
        reference: Option<String>,
        /// From what change on the subject is worse, if the interval excludes none
        #[arg(long, value_name = "PERCENT", default_value_t = 5.0)]
        fail_over: f64,
    },
    /// A relay of the floor, until it is ended; comparisons start it by themselves
    #[command(hide = true)]
    Relay {
        /// How it asks the kernel
        mode: Mode,
        /// Where clients connect
        #[arg(long)]
        listen: SocketAddr,
        /// Where the bytes of each go, in turn
        #[arg(long, value_delimiter = ',', required = true)]
        endpoints: Vec<SocketAddr>,
    },
}

#[derive(Args)]
struct How {
    /// Rounds, in each of which every proxy runs once, in random order
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rounds: u32,
    /// Seconds that count in each block
    #[arg(long, default_value_t = 10.0, value_parser = seconds)]
    seconds: f64,
    /// Seconds before them that do not
    #[arg(long, default_value_t = 3.0, value_parser = seconds)]
    warm_up: f64,
    /// Instead of the scenario's own loads: `saturate`, or requests per second (repeatable)
    #[arg(long, value_parser = load)]
    rate: Vec<Load>,
    /// How requests given by --rate are spread: `poisson` or `uniform`
    #[arg(long, default_value = "poisson", value_parser = arrivals)]
    arrivals: Arrivals,
    /// Where `load`, `peers` and `results` are
    #[arg(long, default_value = "bench")]
    directory: PathBuf,
    /// CPU of driver and upstream; the last but one allowed, if not given
    #[arg(long)]
    driver_cpu: Option<usize>,
    /// CPU of the proxy; the last one allowed, if not given
    #[arg(long)]
    proxy_cpu: Option<usize>,
    /// Leaves out the relays of the floor
    #[arg(long)]
    no_floor: bool,
    /// Fixes order and arrivals
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    apart: Apart,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Run { scenario, peer, how } => measure(&[scenario], vec![peer], &how, None).and_then(|results| show(&results)),
        Command::Compare { scenarios, peers, how } => measure(&scenarios, peers, &how, None).and_then(|results| keep(&results, &how)),
        Command::Sweep { scenario, peers, from, slo_us, bisections, how } => {
            let climb = Climb { from_per_s: from, arrivals: how.arrivals, slo_us, bisections };
            measure(&[scenario], peers, &how, Some(climb)).and_then(|results| keep(&results, &how))
        }
        Command::Floor { scenario, how } => {
            let peers = floor::PEERS.map(str::to_owned).to_vec();
            measure(&[scenario], peers, &how, None).and_then(|results| show(&results))
        }
        Command::Preflight { json } => preflight(json),
        Command::Agent(post) => post.keep(),
        Command::Report { results } => read(&results).and_then(|read| write(&read, &results.with_extension(""))),
        Command::Diff { before, after, reference, fail_over } => match differ(&before, &after, reference.as_deref(), fail_over) {
            Ok(true) => return ExitCode::from(WORSE),
            done => done.map(|_| ()),
        },
        Command::Relay { mode, listen, endpoints } => {
            host::raise_open_files().and_then(|()| floor::relay(mode, listen, endpoints)).map(|never| match never {})
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("corelane-bench: {error}");
            ExitCode::from(FAILED)
        }
    }
}

/// Prints what the host is like, whatever it is like.
fn preflight(json: bool) -> io::Result<()> {
    let findings = host::preflight()?;
    print!("{}", if json { serde_json::to_string_pretty(&findings)? + "\n" } else { preflight::text(&findings) });
    Ok(())
}

/// Prints what changed between two results files; true if the subject has got worse.
fn differ(before: &Path, after: &Path, reference: Option<&str>, fail_over_percent: f64) -> io::Result<bool> {
    let (before, after) = (read(before)?, read(after)?);
    let question = Question { before: &before, after: &after, reference, fail_over_percent };
    let answer = diff::answer(&question).map_err(io::Error::other)?;
    print!("{}", answer.page);
    for worse in &answer.worse {
        eprintln!("worse: {worse}");
    }
    Ok(!answer.worse.is_empty())
}

fn measure(scenarios: &[String], peers: Vec<String>, how: &How, climb: Option<Climb>) -> io::Result<Results> {
    host::raise_open_files()?;
    let mut host = Host::look();
    let commit = host::commit();
    let now = jiff::Zoned::now();
    let mut scenarios = compare::scenarios(&how.directory.join("load"), scenarios)?;
    if climb.is_some() && !how.rate.is_empty() {
        return Err(io::Error::other("a sweep finds its rates by itself: leave out --rate, or set the first one with --from"));
    }
    if !how.rate.is_empty() {
        let loads = how.rate.iter().map(|load| match load {
            Load::Open { rate_per_s, .. } => Load::Open { rate_per_s: *rate_per_s, arrivals: how.arrivals },
            other => *other,
        });
        let loads: Vec<Load> = loads.collect();
        for scenario in &mut scenarios {
            scenario.loads.clone_from(&loads);
        }
    }
    let (driver_cpu, proxy_cpu) = two_cpus(how)?;
    let scratch = std::env::temp_dir().join(format!("corelane-bench-{}", std::process::id()));
    cpu::pin(driver_cpu)?;
    let mut sites = how.apart.set_up()?;
    let settings = Settings {
        peers,
        // A ladder is about where each proxy's ends.
        floor: !how.no_floor && climb.is_none(),
        scenarios,
        rounds: how.rounds,
        span: Span { warm_up_ns: (how.warm_up * 1e9) as u64, window_ns: (how.seconds * 1e9) as u64 },
        seed: how.seed,
        templates: how.directory.join("peers"),
        scratch: scratch.clone(),
        driver_cpu,
        proxy_cpu,
        place: sites.place,
        stop: Arc::new(AtomicBool::new(false)),
    };
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&settings.stop))?;
    }
    let clock = Clock::start();
    // How far up a sweep goes is not known before.
    let mut progress = Progress::new(climb.is_none().then(|| settings.blocks() as u32));
    let mut tell = |line: &str| eprintln!("{} {line}", progress.step(Duration::from_nanos(clock.now_ns())));
    let measured = match climb {
        Some(climb) => sweep::run(&settings, climb, &mut sites.driver, &mut tell)?,
        None => compare::run(&settings, &mut sites.driver, &mut tell)?,
    };
    // Kept where something failed, for the proxies' own words are in there.
    if measured.failure.is_none() && scratch.exists() {
        std::fs::remove_dir_all(&scratch)?;
    }
    host.end();
    let command = std::env::args().skip(1).fold(String::from("corelane-bench"), |command, argument| command + " " + &argument);
    Ok(Results { date: now.strftime("%Y-%m-%d %H:%M %Z").to_string(), commit, command, host, elsewhere: sites.elsewhere, measured })
}

/// Prints what was measured, and fails where it was not all.
fn show(results: &Results) -> io::Result<()> {
    print!("{}", table::page(results));
    results.measured.check()
}

/// Writes what was measured to `results/<date>-<commit>`, with the endings of [`write`] and `.json`, and fails where it was not all.
fn keep(results: &Results, how: &How) -> io::Result<()> {
    let directory = how.directory.join("results");
    std::fs::create_dir_all(&directory)?;
    let date = results.date.split(' ').next().unwrap_or_default();
    let stem = directory.join(free_stem(&directory, &format!("{date}-{}", results.commit)));
    // The data first: all else can be made from it again.
    write_file(&ended(&stem, "json"), &report::json(results)?)?;
    write(results, &stem)?;
    results.measured.check()
}

/// Writes what can be read: `.md`, `.html`, and percentiles into a directory without an ending.
fn write(results: &Results, stem: &Path) -> io::Result<()> {
    write_file(&ended(stem, "md"), &table::page(results))?;
    write_file(&ended(stem, "html"), &html::page(results))?;
    let distributions: Vec<(String, String)> = results.measured.series.iter().flat_map(hgrm::files).collect();
    if !distributions.is_empty() {
        std::fs::create_dir_all(stem)?;
    }
    for (name, text) in distributions {
        std::fs::write(stem.join(name), text)?;
    }
    Ok(())
}

fn write_file(path: &Path, text: &str) -> io::Result<()> {
    std::fs::write(path, text).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    println!("{}", path.display());
    Ok(())
}

/// A path with an ending behind whatever dots it has.
fn ended(stem: &Path, ending: &str) -> PathBuf {
    let mut path = stem.as_os_str().to_owned();
    path.push(".");
    path.push(ending);
    path.into()
}

fn read(path: &Path) -> io::Result<Results> {
    let in_file = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    report::read(&std::fs::read_to_string(path).map_err(in_file)?).map_err(in_file)
}

/// A name no earlier run has taken: results are never overwritten.
fn free_stem(directory: &Path, stem: &str) -> String {
    let numbered = (2..).map(|number| format!("{stem}-{number}"));
    let mut stems = std::iter::once(stem.to_owned()).chain(numbered);
    // The file that is written first: a run that was cut off behind it has a name too.
    stems.find(|stem| !directory.join(format!("{stem}.json")).exists()).expect("there is no end of numbers")
}

/// One CPU for the driver, another one for the proxy.
fn two_cpus(how: &How) -> io::Result<(usize, usize)> {
    let allowed = cpu::allowed()?;
    let last = |back: usize| allowed.len().checked_sub(back).map(|place| allowed[place]);
    if !how.apart.has_proxies_here() {
        // The proxies' CPU is one of their host.
        let driver = how.driver_cpu.or_else(|| last(1)).ok_or_else(|| io::Error::other("no CPU is allowed"))?;
        return Ok((driver, driver));
    }
    match (how.driver_cpu.or_else(|| last(2)), how.proxy_cpu.or_else(|| last(1))) {
        (Some(driver), Some(proxy)) if driver != proxy => Ok((driver, proxy)),
        _ => Err(io::Error::other("driver and proxy need a CPU each: --driver-cpu, --proxy-cpu")),
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("a number from 0 to 3600 is needed".to_owned()),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate_per_s) if rate_per_s.is_finite() && rate_per_s >= 1.0 => Ok(rate_per_s),
        _ => Err("a number of requests per second is needed".to_owned()),
    }
}

fn load(text: &str) -> Result<Load, String> {
    if text == "saturate" {
        return Ok(Load::Saturate);
    }
    let open = |rate_per_s| Load::Open { rate_per_s, arrivals: Arrivals::Poisson };
    rate(text).map(open).map_err(|fault| format!("`saturate` or {fault}"))
}

fn arrivals(text: &str) -> Result<Arrivals, String> {
    match text {
        "poisson" => Ok(Arrivals::Poisson),
        "uniform" => Ok(Arrivals::Uniform),
        _ => Err("`poisson` or `uniform` is needed".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A name is taken once its data is there, also where nothing else was written any more, and the next number is free.
    #[test]
    fn results_are_never_overwritten() {
        let directory = std::env::temp_dir().join(format!("corelane-bench-test-{}-names", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        for wanted in ["2026-01-02-abc", "2026-01-02-abc-2", "2026-01-02-abc-3"] {
            let stem = free_stem(&directory, "2026-01-02-abc");
            assert_eq!(stem, wanted);
            std::fs::write(directory.join(format!("{stem}.json")), "{}").unwrap();
        }
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
