//! The bench of Corelane: to be written.

fn main() {}
