//! boot: to be written.
