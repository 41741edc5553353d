//! Settings: flags, environment and file in, the configuration of each room out; the only reader of all three.
//!
//! Every setting has one name in three spellings: `--backend-mode`, `CORELANE_BACKEND_MODE`, `backend_mode:` in the file given with
//! `--config`. A flag beats the variable, which beats the file, which beats the default; all three are parsed by the same code.

mod command;
mod file;
mod invocation;
mod resolve;
mod settings;
mod text;
mod value;

use std::ffi::OsString;

pub use invocation::Demo;
pub use invocation::Invocation;
pub use invocation::Refusal;
pub use invocation::Run;
pub use invocation::Source;

/// Reads the command line, the environment, and the file they name.
///
/// # Errors
/// [`Refusal`], with the place and the cure.
pub fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Invocation, Refusal> {
    command::read(arguments)
}
