//! Configuration: the user's words in TOML (`raw`), then the validated plan (`resolve`) that the rest sees.
//!
//! Every error names file, line and key and says what was expected. No error repeats the text of a line, nor a value
//! that may hold a password: `secret` decides.

mod document;
mod endpoint;
mod interpolate;
mod locate;
mod patterns;
mod raw;
mod resolve;
mod rules;
mod secret;
mod selection;
#[cfg(test)]
mod tests;
mod units;
mod validated;

use std::path::Path;

use trem_engine::budget::Budget;

pub use document::{Item, Section};
pub use locate::{Problem, Problems};
pub use resolve::shared_objects;
pub use secret::{HIDDEN, masked};
pub use validated::{Config, Endpoint, TaskConfig};

/// Bytes of a size such as `1GiB`.
pub fn size(text: &str) -> Option<usize> {
    units::size(text).and_then(|bytes| usize::try_from(bytes).ok())
}

/// Reads and validates a file, with variables from the process's environment.
pub fn load(file: &Path) -> Result<Config, Problems> {
    let text = std::fs::read_to_string(file)
        .map_err(|e| Problems(vec![Problem::of_file(file, format!("cannot read the file: {e}"))]))?;
    parse(file, &text, &|name| std::env::var(name).ok())
}

/// Validates a text; `env` looks variables up.
pub fn parse(file: &Path, text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Config, Problems> {
    let locator = locate::Locator::new(file, text).map_err(|p| Problems(vec![p]))?;
    let raw: raw::File = toml::from_str(text).map_err(|e| Problems(vec![locator.of_toml(&e)]))?;
    resolve::resolve(&raw, &locator, env, None)
}

/// Validates what is not in a file: keys and values are the same, places are JSON pointers. `memory`: what all tasks of
/// the process share.
pub fn of_json(
    sections: &[Section],
    env: &dyn Fn(&str) -> Option<String>,
    memory: &Budget,
) -> Result<Config, Problems> {
    let document = document::Document::of(sections);
    let unfit = |(key, message): &(String, &str)| Problem {
        file: String::new(),
        place: None,
        key: key.clone(),
        message: (*message).to_owned(),
    };
    if !document.unfit.is_empty() {
        return Err(Problems(document.unfit.iter().map(unfit).collect()));
    }
    let locator = locate::Locator::of_document(&document);
    let raw: raw::File = toml::from_str(&document.text).map_err(|e| Problems(vec![locator.of_toml(&e)]))?;
    resolve::resolve(&raw, &locator, env, Some(memory))
}
