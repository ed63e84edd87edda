//! Configuration: the user's words in TOML (`raw`), then the validated plan (`resolve`) that the rest sees.
//!
//! Every error names file, line and key and says what was expected. No error repeats the text of a line, nor a value
//! that may hold a password: `secret` decides.

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

pub use locate::{Problem, Problems};
pub use validated::{Config, Endpoint, TaskConfig};

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
    resolve::resolve(&raw, &locator, env)
}
