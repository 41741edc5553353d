//! HTTP/1 as bytes in and values out: heads, bodies, framing, targets, the PROXY protocol, and the one table from fault to status.
//!
//! No socket, no clock, no task: everything here is a function of its arguments. Rules follow RFC 9110 and RFC 9112 and are
//! stricter where leniency is how requests are smuggled. No byte of a framing line is ever forwarded: what goes out is
//! written anew by [`h1::encode`].

pub mod body;
pub mod fault;
pub mod h1;
pub mod head;
pub mod path;
pub mod proxy_protocol;
