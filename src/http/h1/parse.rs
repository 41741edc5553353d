//! Reads heads: httparse finds the lines, every rule beyond them is kept here.

use crate::http::fault::DownstreamFault;
use crate::http::fault::UpstreamFault;
use crate::http::head::FieldStorage;
use crate::http::head::HeadLimits;
use crate::http::head::RequestHead;
use crate::http::head::ResponseHead;

/// Reads one request head from the front of `bytes`; `None` until the blank line has arrived.
///
/// # Errors
/// What the client did wrong; the connection is to be closed after the answer.
pub fn request<'h, 'b>(
    _bytes: &'b [u8],
    _storage: &'h mut FieldStorage<'b>,
    _limits: &HeadLimits,
) -> Result<Option<RequestHead<'h, 'b>>, DownstreamFault> {
    todo!()
}

/// Reads one response head from the front of `bytes`; `None` until the blank line has arrived.
///
/// `to_head_request`: the answer to HEAD has no content whatever it declares.
///
/// # Errors
/// `UpstreamFault::MalformedResponse`; the connection must not be used again.
pub fn response<'h, 'b>(
    _bytes: &'b [u8],
    _storage: &'h mut FieldStorage<'b>,
    _limits: &HeadLimits,
    _to_head_request: bool,
) -> Result<Option<ResponseHead<'h, 'b>>, UpstreamFault> {
    todo!()
}
