//! Where a MySQL or MariaDB endpoint is.

use std::fmt;
use std::ops::Deref;

use trem_engine::Result;

use crate::address::{Address, Form, SslMode};

const FORM: Form = Form {
    schemes: &["mysql", "mariadb"],
    port: 3306,
    example: "mysql://user:password@host:3306/database?sslmode=prefer",
};

/// A server of MySQL or MariaDB. `Debug` shows no password.
#[derive(Clone, PartialEq, Eq)]
pub struct MyConfig(Address);

impl MyConfig {
    /// Takes an endpoint's url apart. Errors never repeat the url, which holds the password.
    ///
    /// # Errors
    /// Class `Refused`, with how it is written.
    pub fn parse(url: &str) -> Result<Self> {
        FORM.parse(url).map(Self)
    }

    /// Whom and where, without secrets: for messages.
    pub fn describe(&self) -> String {
        self.0.describe()
    }

    /// The same without TLS.
    pub(super) fn plain(&self) -> Self {
        Self(Address { ssl_mode: SslMode::Disable, ..self.0.clone() })
    }
}

impl Deref for MyConfig {
    type Target = Address;

    fn deref(&self) -> &Address {
        &self.0
    }
}

impl fmt::Debug for MyConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MyConfig({})", self.describe())
    }
}
