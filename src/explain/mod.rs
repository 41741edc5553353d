//! Why a request would go where: every candidate rule, the winner and the reason, filters in order, and the endpoint balancing
//! would choose. Pure: reads a snapshot, sends nothing.

use std::net::IpAddr;

use crate::snapshot::overview::Overview;

/// How an answer is printed: for people or for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    Text,
    Json,
}

/// The request to explain.
#[derive(Clone, Debug)]
pub struct Question {
    pub method: String,
    /// `http://host[:port]/path?query`, or https.
    pub url: String,
    /// `Name: value`.
    pub fields: Vec<(String, String)>,
    pub client: Option<IpAddr>,
}

/// The answer, for people by `Display` and for programs by `Serialize`.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Explanation {}

/// Explains `question` against what is served now.
///
/// # Errors
/// The question is no request: one sentence that says what is wrong with it.
pub fn explain(_overview: &Overview, _question: &Question) -> Result<Explanation, String> {
    todo!()
}
