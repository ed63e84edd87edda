//! Log lines on stderr, written around the progress bars if there are any; those of tasks go to who keeps them, too.

mod kept;

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;

use indicatif::MultiProgress;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

use crate::cli::LogFormat;
use crate::exit::Failure;
use crate::store::Store;

/// The environment variable that says what is logged.
const VARIABLE: &str = "TREM_LOG";
/// What is logged where nothing is said.
const DEFAULT: &str = "info";

/// The log of a running program. Clones share it.
#[derive(Clone)]
pub struct Log {
    filter: Arc<reload::Handle<EnvFilter, Registry>>,
    kept: Option<kept::Flush>,
}

impl Log {
    /// What is logged.
    pub fn level(&self) -> String {
        self.filter.with_current(ToString::to_string).unwrap_or_default()
    }

    /// Writes down what is still to be kept.
    pub fn flush(&self) {
        if let Some(kept) = &self.kept {
            kept.flush();
        }
    }

    /// Logs otherwise from now on.
    ///
    /// # Errors
    /// Says what a filter looks like.
    pub fn set_level(&self, text: &str) -> Result<(), String> {
        let filter = filter(text)?;
        self.filter.reload(filter).map_err(|e| format!("the log level cannot be changed: {e}"))
    }
}

/// Sets logging up for the rest of the process. `kept`: where the lines of tasks go too.
pub fn start(format: LogFormat, bars: &MultiProgress, kept: Option<Store>) -> Result<Log, Failure> {
    let text = std::env::var(VARIABLE).unwrap_or_else(|_| DEFAULT.to_owned());
    let filter = filter(&text).map_err(|e| Failure::Usage(format!("{VARIABLE} is {e}")))?;
    let (filter, handle) = reload::Layer::new(filter);
    let ansi = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let written = tracing_subscriber::fmt::layer().with_writer(AroundBars(bars.clone())).with_ansi(ansi);
    let written = match format {
        LogFormat::Text => written.with_target(false).boxed(),
        LogFormat::Json => written.with_ansi(false).json().flatten_event(true).with_current_span(false).boxed(),
    };
    let kept = kept.map(kept::Keeper::start).transpose().map_err(Failure::System)?;
    let flush = kept.as_ref().map(kept::Keeper::flush);
    let done = tracing_subscriber::registry().with(filter).with(written).with(kept).try_init();
    done.map_err(|e| Failure::System(format!("cannot start logging: {e}")))?;
    Ok(Log { filter: Arc::new(handle), kept: flush })
}

fn filter(text: &str) -> Result<EnvFilter, String> {
    EnvFilter::try_new(text).map_err(|e| format!("`{text}`: expected a filter such as debug or trem_engine=debug: {e}"))
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
