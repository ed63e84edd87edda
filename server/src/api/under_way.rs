//! Requests that brought a key and are not answered yet.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

/// Requests with a key that are under way.
#[derive(Debug, Default)]
pub struct UnderWay(Mutex<HashSet<(String, String)>>);

/// Takes a request off the list when it ends, however it does.
pub struct Turn<'a>(&'a UnderWay, (String, String));

impl UnderWay {
    /// `None` while another one with this key is under way.
    pub fn turn(&self, who: &str, key: &str) -> Option<Turn<'_>> {
        let turn = (who.to_owned(), key.to_owned());
        let new = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(turn.clone());
        new.then_some(Turn(self, turn))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}
