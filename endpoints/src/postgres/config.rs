//! Where a PostgreSQL endpoint is.

use std::fmt;
use std::ops::Deref;

use trem_engine::Result;

use crate::address::{Address, Form, SslMode};

const FORM: Form = Form {
    schemes: &["postgres", "postgresql"],
    port: 5432,
    example: "postgres://user:password@host:5432/database?sslmode=prefer",
};

/// A PostgreSQL endpoint: an [`Address`] with a database. `Debug` shows no password.
#[derive(Clone, PartialEq, Eq)]
pub struct PgConfig {
    address: Address,
    /// The database.
    pub database: String,
}

impl PgConfig {
    /// Takes an endpoint's url apart. Errors never repeat the url, which holds the password.
    ///
    /// # Errors
    /// Class `Refused`, with how it is written.
    pub fn parse(url: &str) -> Result<Self> {
        let mut address = FORM.parse(url)?;
        let database = address.database.get_or_insert_with(|| address.user.clone()).clone();
        Ok(Self { address, database })
    }

    /// Whom and where, without secrets: for messages.
    pub fn describe(&self) -> String {
        self.address.describe()
    }

    /// The same without TLS.
    #[must_use]
    pub fn plain(&self) -> Self {
        let address = Address { ssl_mode: SslMode::Disable, ..self.address.clone() };
        Self { address, ..self.clone() }
    }
}

impl Deref for PgConfig {
    type Target = Address;

    fn deref(&self) -> &Address {
        &self.address
    }
}

impl fmt::Debug for PgConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PgConfig({})", self.describe())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_database_is_the_users_where_none_is_named() {
        let database = |url: &str| PgConfig::parse(url).unwrap().database;
        assert_eq!((database("postgres://u@h"), database("postgres://u@h/d")), ("u".to_owned(), "d".to_owned()));
        assert_eq!(PgConfig::parse("postgres://u@h").unwrap().describe(), "u@h:5432/u");
    }
}
