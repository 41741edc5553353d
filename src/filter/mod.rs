//! filter: to be written.
