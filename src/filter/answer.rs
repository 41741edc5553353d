//! An answer that Corelane makes itself.

/// Status, cause and fields of an answer of our own; the body follows from them and from what the client reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// One token for `corelane-reason`.
    pub reason: &'static str,
    pub fields: Vec<(&'static str, Vec<u8>)>,
}

impl Answer {
    /// A status with its reason.
    pub fn plain(status: u16, reason: &'static str) -> Self {
        Self { status, reason, fields: Vec::new() }
    }

    /// A redirect to `location`.
    pub fn redirect(status: u16, reason: &'static str, location: Vec<u8>) -> Self {
        Self { status, reason, fields: vec![("Location", location)] }
    }
}
