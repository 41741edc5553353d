//! HTTP/1.0 and HTTP/1.1: reading heads, decoding chunked content, writing heads and chunks.

pub mod encode;
pub mod framing;
pub mod parse;
