//! Bearer tokens: 256 random bits each, of which only a hash is kept.

use clap::ValueEnum;
use rusqlite::{OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use super::seal::random;
use super::{Result, Store, StoreError, now};

/// What a token may do. Each may do what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Look.
    Viewer,
    /// Start, stop, pause, reload.
    Operator,
    /// Change endpoints and tasks.
    Admin,
}

impl Role {
    const ALL: [(&'static str, Self); 3] =
        [("viewer", Self::Viewer), ("operator", Self::Operator), ("admin", Self::Admin)];

    /// As people write it.
    pub fn word(self) -> &'static str {
        Self::ALL.iter().find(|(_, role)| *role == self).map_or("viewer", |(word, _)| word)
    }

    fn of(word: &str) -> Self {
        Self::ALL.iter().find(|(w, _)| *w == word).map_or(Self::Viewer, |(_, role)| *role)
    }
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The token's name.
    pub name: String,
    /// What it may do.
    pub role: Role,
}

/// A token, less what nobody knows but its owner.
#[derive(Clone, Debug, Serialize)]
pub struct StoredToken {
    /// Its number.
    pub id: i64,
    /// What it is called.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// When it was made.
    pub created_at: String,
    /// When it was taken back.
    pub revoked_at: Option<String>,
}

impl Store {
    /// Makes a token, which is told once and never again.
    pub fn create_token(&self, name: &str, role: Role) -> Result<String> {
        let bytes: [u8; 32] = random().map_err(StoreError::Unusable)?;
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let token = format!("trem_{digits}");
        self.write(|c| {
            let sql = "INSERT INTO token (name, role, hash, created_at) VALUES (?1, ?2, ?3, ?4)";
            c.execute(sql, params![name, role.word(), hash(&token), now()])?;
            Ok(())
        })?;
        Ok(token)
    }

    /// Whose token it is, if it is one.
    pub fn identity(&self, token: &str) -> Result<Option<Identity>> {
        let sql = "SELECT name, role FROM token WHERE hash = ?1 AND revoked_at IS NULL";
        let one = |row: &Row<'_>| {
            let role: String = row.get(1)?;
            Ok(Identity { name: row.get(0)?, role: Role::of(&role) })
        };
        self.read(|c| Ok(c.prepare_cached(sql)?.query_row([hash(token)], one).optional()?))
    }

    /// All tokens, in the order in which they were made.
    pub fn tokens(&self) -> Result<Vec<StoredToken>> {
        self.read(|c| {
            let mut sql = c.prepare("SELECT id, name, role, created_at, revoked_at FROM token ORDER BY id")?;
            let one = |row: &Row<'_>| {
                let role: String = row.get(2)?;
                Ok(StoredToken {
                    id: row.get(0)?,
                    name: row.get(1)?,
                    role: Role::of(&role),
                    created_at: row.get(3)?,
                    revoked_at: row.get(4)?,
                })
            };
            Ok(sql.query_map([], one)?.collect::<Result<_, _>>()?)
        })
    }

    /// Takes a token back; whether there was one in use.
    pub fn revoke_token(&self, id: i64) -> Result<bool> {
        let sql = "UPDATE token SET revoked_at = ?2 WHERE id = ?1 AND revoked_at IS NULL";
        self.write(|c| Ok(c.execute(sql, params![id, now()])? > 0))
    }
}

/// A token cannot be guessed, so nothing slower is needed.
fn hash(token: &str) -> Vec<u8> {
    Sha256::digest(token.as_bytes()).to_vec()
}
