//! Log lines on stderr, written around the progress bars if there are any.

use std::io::{self, IsTerminal, Write};

use indicatif::MultiProgress;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::cli::LogFormat;
use crate::exit::Failure;

/// The environment variable that says what is logged.
const VARIABLE: &str = "TREM_LOG";

/// Sets logging up for the rest of the process.
pub fn start(format: LogFormat, bars: &MultiProgress) -> Result<(), Failure> {
    let filter = match std::env::var(VARIABLE) {
        Ok(text) => EnvFilter::try_new(&text).map_err(|e| {
            Failure::Usage(format!("{VARIABLE} is `{text}`: expected a filter such as debug or trem_engine=debug: {e}"))
        })?,
        Err(_) => EnvFilter::new("info"),
    };
    let writer = AroundBars(bars.clone());
    let ansi = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(ansi);
    let done = match format {
        LogFormat::Text => builder.with_target(false).try_init(),
        LogFormat::Json => builder.with_ansi(false).json().flatten_event(true).with_current_span(false).try_init(),
    };
    done.map_err(|e| Failure::System(format!("cannot start logging: {e}")))
}

struct AroundBars(MultiProgress);

/// One log line.
struct Line<'a> {
    bars: &'a MultiProgress,
    text: Vec<u8>,
}

impl<'a> MakeWriter<'a> for AroundBars {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { bars: &self.0, text: Vec::new() }
    }
}

impl Write for Line<'_> {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(part);
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let text = std::mem::take(&mut self.text);
        self.bars.suspend(|| io::stderr().lock().write_all(&text))
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        if !self.text.is_empty() {
            let _ = self.flush();
        }
    }
}
