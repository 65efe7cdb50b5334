//! Publishes a value if it changed: readers of a channel wake only for something new.

use tokio::sync::watch;

/// Puts `value` on the channel; true when it differs from what was there.
pub fn publish<T: PartialEq>(channel: &watch::Sender<T>, value: T) -> bool {
    channel.send_if_modified(|now| {
        let changed = *now != value;
        if changed {
            *now = value;
        }
        changed
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_value_again_wakes_no_reader() {
        let (sender, mut reader) = watch::channel(1);
        assert!(publish(&sender, 2));
        assert_eq!(*reader.borrow_and_update(), 2);
        assert!(!publish(&sender, 2) && !reader.has_changed().unwrap());
    }
}
