//! The one place where an error of a server or of its driver becomes an [`Error`] with a class and a remedy.

use trem_engine::{Class, Error, Remedy};

/// What an error says, and what to do about it. Numbers: MySQL manual, "Server Error Message Reference"; MariaDB
/// knowledge base, "MariaDB Error Codes". What is not listed is of class `Table`: where it is known which table a
/// statement was for, that table's matter alone.
const CODES: &[(&[u16], Class, &str)] = &[
    // Too many connections, in all or of one user; a server that goes down; a connection that was killed.
    (
        &[1040, 1053, 1077, 1079, 1080, 1152, 1158, 1159, 1160, 1161, 1184, 1203, 1226, 1317, 1927, 3032, 3169],
        Class::Transient,
        "",
    ),
    (&[1021, 1114], Class::Transient, "make room on the server's disk"),
    (&[1213, 3572], Class::Transient, ""),
    (&[1205], Class::Locked, "end the transaction that holds the lock (SHOW PROCESSLIST)"),
    (&[1290, 1836, 3100], Class::Transient, "let the server take writes (read_only, super_read_only)"),
    (&[1044, 1045, 1142, 1143, 1227, 1370, 1698, 1862], Class::Refused, "grant the account what is missing (GRANT)"),
    (&[1049], Class::Refused, "correct the database in the endpoint's url"),
    (
        &[1130, 1129, 1251, 1524],
        Class::Refused,
        "let the account connect from here, with a password that the server takes",
    ),
    (&[1236], Class::Lineage, ""),
    (&[1064, 1149], Class::Fatal, ""),
];

/// An error of the driver.
pub(super) fn error(error: mysql_async::Error) -> Error {
    use mysql_async::{DriverError, Error as E, IoError};
    match error {
        E::Server(server) => {
            let (class, remedy) = of_code(server.code);
            let error = Error::new(class, format!("{} ({})", server.message, server.code));
            match (class, remedy) {
                // The log from there on is gone, or is another server's.
                (Class::Lineage, _) => error.remedy(Remedy::StartAnew),
                (_, "") => error,
                (_, remedy) => error.remedy(remedy),
            }
        }
        E::Io(IoError::Tls(tls)) => Error::refused("TLS with the server failed").cause(tls),
        E::Io(IoError::Io(io)) => Error::transient("the connection to the server").cause(io),
        E::Driver(DriverError::ConnectionClosed | DriverError::PoolDisconnected) => {
            Error::transient("the server has closed the connection")
        }
        E::Driver(driver) => Error::fatal("the server's driver").cause(driver),
        E::Url(url) => Error::fatal("internal: a url").cause(url),
        E::Other(other) => Error::fatal("the server's driver").cause(other),
    }
}

/// Whether an account lacks a privilege that is not one of a table.
pub(super) fn is_denied(error: &Error) -> bool {
    [1044, 1045, 1227].iter().any(|code| error.message().ends_with(&format!("({code})")))
}

fn of_code(code: u16) -> (Class, &'static str) {
    let known = CODES.iter().find(|(codes, ..)| codes.contains(&code));
    known.map_or((Class::Table, ""), |(_, class, remedy)| (*class, *remedy))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_in_one_line() {
        let mut all: Vec<u16> = CODES.iter().flat_map(|(codes, ..)| codes.iter().copied()).collect();
        all.sort_unstable();
        let count = all.len();
        all.dedup();
        assert_eq!(all.len(), count);
        assert_eq!(of_code(1213).0, Class::Transient);
        assert_eq!(of_code(1406).0, Class::Table);
    }
}
