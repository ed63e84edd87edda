//! What is secret in the state file: sealed with a key that is not in it (AES-256-GCM).

use std::fmt;
use std::io::Write;
use std::path::Path;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use rusqlite::{Connection, OptionalExtension};

use super::error::{Result, StoreError};

/// Bytes of a key.
const LENGTH: usize = 32;
/// What is sealed for the key to be known again.
const PROBE: &[u8] = b"trem";

/// Seals and opens.
pub struct Key(LessSafeKey);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(***)")
    }
}

impl Key {
    /// Of 64 hexadecimal digits.
    pub fn of_text(text: &str) -> Option<Self> {
        let digits = text.trim();
        let byte = |at: usize| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
        let bytes: Vec<u8> = (0..digits.len()).step_by(2).map(byte).collect::<Option<_>>()?;
        Self::of_bytes(&bytes)
    }

    fn of_bytes(bytes: &[u8]) -> Option<Self> {
        (bytes.len() == LENGTH).then_some(())?;
        Some(Self(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, bytes).ok()?)))
    }

    /// The key in a file. If there is none and `make` says so, a new one is put there, for the owner alone to read.
    ///
    /// # Errors
    /// Says what is wrong with the file.
    pub fn of_file(file: &Path, make: bool) -> Result<Self, String> {
        let shown = file.display();
        match std::fs::read_to_string(file) {
            Ok(text) => {
                Self::of_text(&text).ok_or_else(|| format!("the key file {shown} does not hold 64 hexadecimal digits"))
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && make => Self::make(file),
            Err(e) => Err(format!("the key file {shown} cannot be read: {e}")),
        }
    }

    fn make(file: &Path) -> Result<Self, String> {
        use std::os::unix::fs::OpenOptionsExt;
        let bytes: [u8; LENGTH] = random()?;
        let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).chain(["\n".to_owned()]).collect();
        let written = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
        written
            .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
            .map_err(|e| format!("the key file {} cannot be written: {e}", file.display()))?;
        Self::of_bytes(&bytes).ok_or_else(|| "a key could not be made".to_owned())
    }

    /// `of`: what it belongs to; sealed for one thing, it is not opened for another.
    pub(super) fn seal(&self, of: &str, text: &[u8]) -> Result<Vec<u8>> {
        let failed = |_| StoreError::Unusable("a secret could not be sealed".to_owned());
        let nonce: [u8; NONCE_LEN] = random().map_err(StoreError::Unusable)?;
        let mut sealed = text.to_vec();
        let (nonce, key) = (nonce, &self.0);
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(of), &mut sealed)
            .map_err(failed)?;
        Ok([&nonce[..], &sealed].concat())
    }

    /// `None` for what this key has not sealed for that.
    pub(super) fn open(&self, of: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, text) = sealed.split_at_checked(NONCE_LEN)?;
        let mut text = text.to_vec();
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let opened = self.0.open_in_place(nonce, Aad::from(of), &mut text).ok()?;
        Some(opened.to_vec())
    }
}

/// Bytes that nobody can guess.
pub(super) fn random<const N: usize>() -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map(|()| bytes).map_err(|_| "the machine gives no random numbers".to_owned())
}

/// Whether it is the key that the file was made with.
pub(super) fn check(connection: &Connection, key: &Key, file: &Path) -> Result<()> {
    let sql = "SELECT value FROM meta WHERE name = 'probe'";
    let probe: Option<Vec<u8>> = connection.query_row(sql, [], |row| row.get(0)).optional()?;
    match probe {
        Some(sealed) if key.open("probe", &sealed).as_deref() == Some(PROBE) => Ok(()),
        Some(_) => Err(StoreError::Unusable(format!(
            "{}: its secrets are sealed with another key: name the right one with --key-file, or in TREM_KEY",
            file.display()
        ))),
        None => {
            let sealed = key.seal("probe", PROBE)?;
            connection.execute("INSERT INTO meta VALUES ('probe', ?1)", [sealed])?;
            Ok(())
        }
    }
}
