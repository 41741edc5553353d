//! upstream: to be written.
