//! What the live view shows, and what a key does to it.

use std::collections::HashMap;
use std::time::Instant;

use serde_json::Value;

/// A key that means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// To the one above.
    Up,
    /// To the one below.
    Down,
    /// Into a task.
    Enter,
    /// Out again.
    Back,
    /// Any letter.
    Letter(char),
}

/// What a key has to be followed by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Nothing but another picture.
    None,
    /// The view ends.
    Quit,
    /// A table is loaded again.
    Reload {
        /// Of this task.
        task: String,
        /// Its name at the source.
        table: String,
    },
}

/// What tasks are in the order of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Order {
    #[default]
    Name,
    State,
    Lag,
    Rate,
}

/// A task in a line.
#[derive(Clone, Debug, Default)]
pub(super) struct Line {
    pub(super) name: String,
    pub(super) state: String,
    pub(super) reason: Option<String>,
    pub(super) tables: u64,
    pub(super) suspended: u64,
    pub(super) lag_seconds: Option<f64>,
    pub(super) lag_bytes: Option<u64>,
    pub(super) retained_bytes: Option<u64>,
    /// Changes and loaded rows a second, since the last answer.
    pub(super) rate: f64,
}

/// What is shown.
#[derive(Default)]
pub struct Model {
    pub(super) tasks: Vec<Line>,
    /// The tables of the task that is open, as the daemon answers them.
    pub(super) tables: Vec<Value>,
    pub(super) open: Option<String>,
    pub(super) selected: usize,
    /// A table that is loaded again if that is confirmed.
    pub(super) asked: Option<String>,
    /// What went wrong, or what was done.
    pub(super) said: String,
    order: Order,
    counts: HashMap<String, (Instant, f64)>,
}

impl Model {
    /// The task whose tables are to be asked for.
    pub fn open(&self) -> Option<&str> {
        self.open.as_deref()
    }

    /// Says something in the last line.
    pub fn say(&mut self, text: impl Into<String>) {
        self.said = text.into();
    }

    /// Takes an answer of `/tasks` in.
    pub fn tasks(&mut self, answer: &Value, now: Instant) {
        let lines = answer["tasks"].as_array().into_iter().flatten().map(|task| {
            let status = &task["status"];
            let name = task["name"].as_str().unwrap_or_default().to_owned();
            let count = status["changes"].as_f64().unwrap_or(0.0) + status["rows_loaded"].as_f64().unwrap_or(0.0);
            let rate = match self.counts.insert(name.clone(), (now, count)) {
                // A run that has begun anew counts from zero.
                Some((then, before)) if count >= before && now > then => (count - before) / (now - then).as_secs_f64(),
                _ => 0.0,
            };
            Line {
                name,
                state: status["state"].as_str().unwrap_or_default().to_owned(),
                reason: status["reason"].as_str().map(str::to_owned),
                tables: status["tables"]["total"].as_u64().unwrap_or(0),
                suspended: status["tables"]["suspended"].as_u64().unwrap_or(0),
                lag_seconds: status["lag_seconds"].as_f64(),
                lag_bytes: status["lag_bytes"].as_u64(),
                retained_bytes: status["retained_bytes"].as_u64(),
                rate,
            }
        });
        self.tasks = lines.collect();
        self.sort();
        self.stay_inside();
    }

    /// Takes an answer of `/tasks/NAME/tables` in.
    pub fn tables(&mut self, answer: &Value) {
        self.tables = answer["tables"].as_array().cloned().unwrap_or_default();
        self.stay_inside();
    }

    fn sort(&mut self) {
        // Worst first.
        let down = |a: f64, b: f64| b.total_cmp(&a);
        match self.order {
            Order::Name => self.tasks.sort_by(|a, b| a.name.cmp(&b.name)),
            Order::State => self.tasks.sort_by(|a, b| (&a.state, &a.name).cmp(&(&b.state, &b.name))),
            Order::Lag => {
                self.tasks.sort_by(|a, b| down(a.lag_seconds.unwrap_or(-1.0), b.lag_seconds.unwrap_or(-1.0)));
            }
            Order::Rate => self.tasks.sort_by(|a, b| down(a.rate, b.rate)),
        }
    }

    fn stay_inside(&mut self) {
        let lines = if self.open.is_some() { self.tables.len() } else { self.tasks.len() };
        self.selected = self.selected.min(lines.saturating_sub(1));
    }

    /// What a key does.
    pub fn key(&mut self, key: Key) -> Act {
        if let Some(table) = self.asked.take() {
            let task = self.open.clone().unwrap_or_default();
            return match key {
                Key::Letter('y') => Act::Reload { task, table },
                _ => Act::None,
            };
        }
        match key {
            Key::Up => self.selected = self.selected.saturating_sub(1),
            Key::Down => self.selected += 1,
            Key::Enter if self.open.is_none() => {
                self.open = self.tasks.get(self.selected).map(|task| task.name.clone());
                (self.selected, self.tables) = (0, Vec::new());
            }
            Key::Back => {
                let task = self.open.take();
                let at = self.tasks.iter().position(|line| Some(&line.name) == task.as_ref());
                self.selected = at.unwrap_or(0);
            }
            Key::Letter('q') => return Act::Quit,
            Key::Letter('r') if self.open.is_some() => {
                self.asked = self.tables.get(self.selected).and_then(|t| t["name"].as_str()).map(str::to_owned);
            }
            Key::Letter(letter) if self.open.is_none() => {
                self.order = match letter {
                    'n' => Order::Name,
                    's' => Order::State,
                    'l' => Order::Lag,
                    'c' => Order::Rate,
                    _ => self.order,
                };
                self.sort();
            }
            Key::Enter | Key::Letter(_) => {}
        }
        self.stay_inside();
        Act::None
    }
}
