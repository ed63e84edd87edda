//! Where and with what a result was measured.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use trem_tests::binaries::{PgBinaries, root};

/// Whether the machine had other work.
pub const LOAD: &str = "load average at the start";

/// What stands above every result.
pub fn facts() -> Vec<(&'static str, String)> {
    let cpu = line_of("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = line_of("/proc/meminfo", "MemTotal").unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default().to_owned();
    vec![
        ("machine", format!("{cores} cores, {cpu}, {memory}")),
        (LOAD, load),
        ("kernel", fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()),
        ("postgres", output(Command::new(PgBinaries::packaged().bin.join("postgres")).arg("--version"))),
        ("pgcopydb", output(Command::new("pgcopydb").arg("--version")).lines().next().unwrap_or("none").to_owned()),
        ("rustc", output(Command::new("rustc").arg("--version"))),
        ("commit", commit()),
    ]
}

/// The commit, marked when files differ from it.
fn commit() -> String {
    let git = |args: &[&str]| output(Command::new("git").current_dir(root()).args(args));
    let changed = git(&["status", "--porcelain", "--untracked-files=no", "--", "*.rs", "*.toml"]);
    let mark = if changed.is_empty() { "" } else { " and uncommitted changes" };
    format!("{}{mark}", git(&["rev-parse", "--short=12", "HEAD"]))
}

fn line_of(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|l| l.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn output(command: &mut Command) -> String {
    let out = command.output().map(|o| o.stdout).unwrap_or_default();
    String::from_utf8_lossy(&out).trim().to_owned()
}

/// The release binary of this source tree, built now unless `TREM_BIN` names one: a stale one is never measured.
pub fn trem() -> PathBuf {
    if let Some(bin) = std::env::var_os("TREM_BIN") {
        return PathBuf::from(bin);
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo).current_dir(root()).args(["build", "--release", "--quiet", "-p", "trem"]).status();
    assert!(built.is_ok_and(|s| s.success()), "trem does not build");
    trem_tests::binaries::target_dir().join("release/trem")
}

/// Whether a program can be found.
pub fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).exists())
}
