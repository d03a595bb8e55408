//! Equal requests at the same time are asked once, and all get the answer.

use super::cache::CacheKey;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::sync::OnceCell;

type UnderWay<T> = Mutex<HashMap<CacheKey, Weak<OnceCell<T>>>>;

/// The requests under way.
#[derive(Debug)]
pub(super) struct Flights<T> {
    under_way: UnderWay<T>,
}

impl<T: Clone> Flights<T> {
    pub(super) fn new() -> Self {
        Self { under_way: Mutex::default() }
    }

    /// Asks, or waits for who asks the same; `true` where it asked itself. If the one that asks is dropped, one of
    /// those that wait asks in its place.
    pub(super) async fn share<F: Future<Output = T>>(
        &self,
        key: &CacheKey,
        ask: impl FnOnce() -> F,
    ) -> (T, bool) {
        let seat = self.join(key);
        let mut asked = false;
        let asking = || {
            asked = true;
            ask()
        };
        let answer = seat.cell().get_or_init(asking).await.clone();
        (answer, asked)
    }

    fn join(&self, key: &CacheKey) -> Seat<'_, T> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let cell = under_way.get(key).and_then(Weak::upgrade).unwrap_or_else(|| {
            let cell = Arc::new(OnceCell::new());
            under_way.insert(key.clone(), Arc::downgrade(&cell));
            cell
        });
        Seat { under_way: &self.under_way, key: key.clone(), cell: Some(cell) }
    }
}

/// A share in a request under way; the last one to leave removes it.
struct Seat<'a, T> {
    under_way: &'a UnderWay<T>,
    key: CacheKey,
    cell: Option<Arc<OnceCell<T>>>,
}

impl<T> Seat<'_, T> {
    fn cell(&self) -> &OnceCell<T> {
        self.cell.as_ref().expect("a seat has its cell until it is dropped")
    }
}

impl<T> Drop for Seat<'_, T> {
    fn drop(&mut self) {
        // Leaving and counting happen under one lock, or the last two might each take the other for the last.
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        self.cell = None;
        if under_way.get(&self.key).is_some_and(|cell| cell.strong_count() == 0) {
            under_way.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::time::Duration;
    use tokio::time::sleep;

    fn key(name: &str) -> CacheKey {
        CacheKey::of("x", name.as_bytes())
    }

    #[tokio::test(start_paused = true)]
    async fn equal_requests_are_asked_once_and_others_are_not_held_up() {
        let (flights, asked) = (Flights::new(), Cell::new(0));
        let ask = async |answer: u32| {
            asked.set(asked.get() + 1);
            sleep(Duration::from_secs(1)).await;
            answer
        };
        let (one, two) = (key("one"), key("two"));
        let answers = tokio::join!(
            flights.share(&one, || ask(1)),
            flights.share(&one, || ask(2)),
            flights.share(&two, || ask(3)),
        );
        assert_eq!(answers, ((1, true), (1, false), (3, true)));
        assert_eq!(asked.get(), 2);
        assert!(flights.under_way.lock().expect("no panic").is_empty());
        // Later is not at the same time.
        assert_eq!(flights.share(&one, || ask(4)).await, (4, true));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_takes_over_from_who_left() {
        let flights = Flights::new();
        let key = key("one");
        let hangs = flights.share(&key, std::future::pending::<u32>);
        let leaves = tokio::time::timeout(Duration::from_secs(1), hangs);
        let (left, answer) = tokio::join!(leaves, flights.share(&key, async || 2));
        assert!(left.is_err());
        assert_eq!(answer, (2, true));
        assert!(flights.under_way.lock().expect("no panic").is_empty());
    }
}
