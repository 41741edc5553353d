//! Which certificate each host shows.
