//! The newest state of something, posted by one thread and read by others that may wait for each other: never by a shard.

#![expect(clippy::disallowed_types, reason = "control posts and admin reads; no shard ever touches a board")]

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

/// A place for the newest `T`.
#[derive(Debug)]
pub struct Board<T>(Mutex<Arc<T>>);

impl<T: Default> Default for Board<T> {
    fn default() -> Self {
        Self(Mutex::new(Arc::default()))
    }
}

impl<T> Board<T> {
    /// Replaces what is read from now on.
    pub fn post(&self, newest: Arc<T>) {
        let old = std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), newest);
        // After the lock: its drop may take long.
        drop(old);
    }

    /// What was posted last.
    pub fn latest(&self) -> Arc<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Readers get what was posted last; what they read before stays as it was.
    #[test]
    fn the_newest_is_read() {
        let board: Board<u32> = Board::default();
        assert_eq!(*board.latest(), 0);
        board.post(Arc::new(1));
        let earlier = board.latest();
        board.post(Arc::new(2));
        assert_eq!((*earlier, *board.latest()), (1, 2));
    }
}
