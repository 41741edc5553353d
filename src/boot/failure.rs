//! Why a command failed: an exit code and one line for the user.

use std::io;
use std::io::ErrorKind;

use crate::control::StartError;
use crate::shard::Failed;
use crate::shard::LaunchError;

/// What went wrong, said so that it can be cured.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    /// The exit code: 1 failure, 77 missing permission, 78 bad configuration.
    pub code: u8,
    /// One line; empty where everything has been said already.
    pub message: String,
}

const GENERAL: u8 = 1;
const PERMISSION: u8 = 77;
const CONFIGURATION: u8 = 78;

impl Failure {
    /// Something failed that is neither permission nor configuration.
    pub(crate) fn general(message: String) -> Self {
        Self { code: GENERAL, message }
    }

    /// The operating system does not allow it.
    pub(crate) fn permission(message: String) -> Self {
        Self { code: PERMISSION, message }
    }

    /// A setting is wrong.
    pub(crate) fn configuration(message: String) -> Self {
        Self { code: CONFIGURATION, message }
    }

    /// A thing called `what` could not be opened or bound.
    pub(crate) fn of_io(what: &str, error: &io::Error) -> Self {
        match error.kind() {
            ErrorKind::PermissionDenied => Self::permission(format!("{what}: {error}: grant the right, or choose another place")),
            ErrorKind::AddrInUse => {
                Self::general(format!("{what}: {error}: another process listens there: stop it or choose another port"))
            }
            ErrorKind::AddrNotAvailable => Self::configuration(format!("{what}: {error}: choose an address of this host")),
            ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::IsADirectory => {
                Self::configuration(format!("{what}: {error}: choose a path that exists"))
            }
            _ => Self::general(format!("{what}: {error}")),
        }
    }
}

impl From<LaunchError> for Failure {
    fn from(error: LaunchError) -> Self {
        let message = error.to_string();
        match error {
            LaunchError::IoUring(_) | LaunchError::LockedMemory(_) => Self::permission(message),
            LaunchError::Listen { error, .. } => Self { message, ..Self::of_io("", &error) },
            LaunchError::Thread(_) => Self::general(message),
        }
    }
}

impl From<Failed> for Failure {
    fn from(Failed { shard, reason }: Failed) -> Self {
        Self::general(format!("shard {shard} has failed: {reason}; the others were drained: start it again, and report what it logged"))
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        Self::configuration(error.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::ListenerConfig;

    /// Scripts tell by the code whether to grant, to correct, or to look.
    #[test]
    fn a_start_that_fails_has_the_code_of_its_cause() {
        let listen = |kind: ErrorKind| {
            let listener = ListenerConfig { name: "http/[::]:80".to_owned(), address: ([0, 0, 0, 0], 80).into(), tls: false };
            LaunchError::Listen { listener, error: kind.into() }
        };
        for (error, code) in [
            (LaunchError::IoUring(ErrorKind::PermissionDenied.into()), 77),
            (LaunchError::LockedMemory(65_536), 77),
            (listen(ErrorKind::PermissionDenied), 77),
            (listen(ErrorKind::AddrInUse), 1),
            (listen(ErrorKind::AddrNotAvailable), 78),
        ] {
            let told = error.to_string();
            let failure = Failure::from(error);
            assert_eq!(failure.code, code, "{told}");
            assert_eq!(failure.message, told, "the message is that of whoever knows the cure");
        }
    }
}
