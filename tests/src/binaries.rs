//! Finds the programs that tests run: the PostgreSQL builds of this machine and trem itself.

use std::path::{Path, PathBuf};

/// A PostgreSQL build.
#[derive(Clone, Debug)]
pub struct PgBinaries {
    /// The folder with `initdb` and `postgres`.
    pub bin: PathBuf,
    /// The major version.
    pub major: u32,
}

impl PgBinaries {
    /// The build of the distribution: `TREM_PG_BIN`, or else the newest below `/usr/lib/postgresql`.
    pub fn packaged() -> Self {
        if let Some(bin) = std::env::var_os("TREM_PG_BIN") {
            return Self::at(PathBuf::from(bin));
        }
        let installed = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let mut found: Vec<Self> =
            installed.map(|e| e.path().join("bin")).filter(|b| b.join("postgres").exists()).map(Self::at).collect();
        found.sort_by_key(|b| b.major);
        found.pop().expect("no PostgreSQL server below /usr/lib/postgresql: `make setup` installs one")
    }

    /// The newest build that `scripts/newest-postgres` could bring; `None` where it could bring none.
    pub fn newest() -> Option<Self> {
        let note = std::fs::read_to_string(target_dir().join("newest-postgres")).ok()?;
        let bin = PathBuf::from(note.trim());
        assert!(bin.join("postgres").exists(), "{} is gone: run scripts/newest-postgres again", bin.display());
        Some(Self::at(bin))
    }

    fn at(bin: PathBuf) -> Self {
        let out = std::process::Command::new(bin.join("postgres")).arg("--version").output();
        let out = out.unwrap_or_else(|e| panic!("{}/postgres does not run: {e}", bin.display()));
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let version = text.split_whitespace().nth(2).unwrap_or_default();
        let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
        let major = digits.parse().unwrap_or_else(|_| panic!("no version in `{}`", text.trim()));
        Self { bin, major }
    }
}

/// The workspace's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace").to_owned()
}

/// Where cargo builds.
pub fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// The trem binary: `TREM_BIN`, or else the one that `cargo build` made.
pub fn trem() -> PathBuf {
    let bin = std::env::var_os("TREM_BIN").map_or_else(|| target_dir().join("debug/trem"), PathBuf::from);
    assert!(bin.exists(), "{} is not there: run `make build` first", bin.display());
    bin
}
