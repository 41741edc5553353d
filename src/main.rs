//! The door: arguments in, exit code out.

use std::process::ExitCode;

use corelane::boot;
use corelane::boot::Failure;
use corelane::config;
use corelane::config::Invocation;
use corelane::config::Refusal;
use corelane::config::Source;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The command line is wrong (EX_USAGE).
const USAGE: u8 = 64;
/// The configuration is wrong (EX_CONFIG).
const CONFIGURATION: u8 = 78;

fn main() -> ExitCode {
    let result = match config::read(std::env::args_os()) {
        Ok(invocation) => perform(invocation),
        Err(Refusal::Usage(message)) => return refuse(USAGE, message.trim_end()),
        Err(Refusal::Config(message)) => return refuse(CONFIGURATION, &format!("corelane: {message}")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { code, message }) if message.is_empty() => ExitCode::from(code),
        Err(Failure { code, message }) => refuse(code, &format!("corelane: {message}")),
    }
}

fn perform(invocation: Invocation) -> Result<(), Failure> {
    match invocation {
        Invocation::Run(run) => boot::run(boot::Config {
            listeners: run.listeners,
            placement: run.placement,
            drain_timeout: run.drain_timeout,
            pre_stop_delay: run.pre_stop_delay,
            admin: run.admin,
            control: run.control,
            access_log: run.access_log,
            access_log_format: run.access_log_format,
            log: run.log,
        }),
        Invocation::Demo(demo) => boot::demo(&demo.scene, demo.placement, demo.log),
        Invocation::Check { control, output } => boot::check(&control, output),
        Invocation::Explain { of: Source::Objects(control), question, output } => boot::explain(&control, &question, output),
        Invocation::Explain { of: Source::Instance(admin), question, output } => boot::explain_there(admin, &question, output),
        Invocation::Status { admin, output } => boot::status(admin, output),
        Invocation::Version => {
            boot::version();
            Ok(())
        }
        Invocation::Print(text) => {
            print!("{text}");
            Ok(())
        }
    }
}

fn refuse(code: u8, message: &str) -> ExitCode {
    eprintln!("{message}");
    ExitCode::from(code)
}
